Sequel.migration do
  up do
    alter_table(:people) { add_column :note, String }
    self[:people].where(note: nil).update(note: 'imported')
    create_function(:touch, 'BEGIN NEW.note = now(); RETURN NEW; END', language: :plpgsql, returns: :trigger)
    create_trigger(:people, :touch, :touch, events: :update, each_row: true)
  end
  down do
    drop_trigger(:people, :touch)
    drop_function(:touch)
    alter_table(:people) { drop_column :note }
  end
end
