class Index < ActiveRecord::Migration[6.1]
  disable_ddl_transaction!
  def change
    add_index :people, :note, algorithm: :concurrently
    add_check_constraint :people, "email LIKE '%@%'", name: 'has_at'
  end
end
