class Shop < ActiveRecord::Migration[6.1]
  def change
    enable_extension 'citext'
    create_table :people, comment: 'who buys and sells' do |t|
      t.citext :email, null: false, index: { unique: true }
      t.jsonb :settings, default: {}
      t.timestamps
    end
    create_table :purchases, id: :uuid do |t|
      t.references :person, foreign_key: { on_delete: :cascade }
      t.decimal :total, precision: 12, scale: 2
    end
  end
end
