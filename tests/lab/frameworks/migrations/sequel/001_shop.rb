Sequel.migration do
  up do
    create_table(:people) do
      primary_key :id
      String :email, null: false, unique: true
      DateTime :created_at, default: Sequel::CURRENT_TIMESTAMP
      index :created_at
    end
    self[:people].multi_insert([{ email: 'ada@example.com' }, { email: 'ben@example.com' }])
  end
  down { drop_table(:people) }
end
