class Note < ActiveRecord::Migration[6.1]
  class Person < ActiveRecord::Base; end

  def up
    Person.create!(email: 'ada@example.com')
    Person.insert_all!([{ email: 'ben@example.com', created_at: Time.at(0), updated_at: Time.at(0) }])
    add_column :people, :note, :text
    Person.where(note: nil).update_all(note: 'imported')
    Person.find_each { |person| person.update!(note: person.email) }
    change_column_null :people, :note, false, 'none'
    execute <<~SQL
      CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.updated_at = now(); RETURN NEW; END
      $$;
      CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
      UPDATE people SET note = 'again' WHERE note IS NULL;
    SQL
  end

  def down
    execute 'DROP TRIGGER touch ON people; DROP FUNCTION touch()'
    remove_column :people, :note
  end
end
