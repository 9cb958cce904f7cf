# Rails' ActiveRecord: pool, models, relations, nested transactions, locks, bulk writes, introspection.

require "active_record"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"], database: ENV["PGDATABASE"],
  username: ENV["PGUSER"], password: ENV["PGPASSWORD"], pool: 3, encoding: "unicode",
  min_messages: "warning"
)

class Author < ActiveRecord::Base
  has_many :posts
end

class Label < ActiveRecord::Base
end

class PostLabel < ActiveRecord::Base
  belongs_to :post
  belongs_to :label
end

class Post < ActiveRecord::Base
  self.locking_column = :version
  belongs_to :author
  has_many :post_labels
  has_many :labels, through: :post_labels
end

connection = ActiveRecord::Base.connection
puts "tables #{connection.tables.sort} #{connection.views}"
puts "columns #{connection.columns('authors').map { |column| "#{column.name} #{column.sql_type}" }}"
puts "indexes #{connection.indexes('posts').map(&:name)} #{connection.foreign_keys('posts').map(&:name)}"
author = Author.create!(name: "Cleo", email: "cleo@example.com", mood: "sad", settings: { theme: "dark" },
  keywords: %w[a b])
puts "created #{author.id} #{author.reload.mood} #{author.settings} #{author.keywords}"
Post.transaction do
  post = author.posts.create!(title: "first", labels: Label.where(id: [1, 2]))
  begin
    Post.transaction(requires_new: true) { Author.create!(name: "x", email: "ada@example.com") }
  rescue ActiveRecord::RecordNotUnique
    puts "savepoint"
  end
  puts "locked #{Post.lock.find(post.id).title} #{post.lock!('FOR UPDATE SKIP LOCKED').title}"
end
Post.transaction(isolation: :serializable) do
  author.posts.destroy_all
  raise ActiveRecord::Rollback
end
puts "rolled back #{author.posts.reload.count}"
post = author.posts.first
post.update!(title: "changed")
puts "optimistic #{post.version}"
puts "inserted #{Post.insert_all((1..30).map { |n| { author_id: author.id, title: "bulk #{n}" } }).length}"
puts "upserted #{Author.upsert({ name: 'Cleo II', email: 'cleo@example.com' }, unique_by: :email).length}"
puts "eager #{Post.includes(:author, :labels).where(title: 'changed').map { |p| [p.title, p.author.name, p.labels.map(&:name).sort] }}"
puts "batched #{Post.in_batches(of: 50).sum(&:count)} #{Post.find_each(batch_size: 40).count}"
puts "updated #{Post.where("title LIKE 'bulk 1%'").update_all('price = price + 1')}"
puts "json #{Author.where("settings->>'theme' = ?", 'dark').order(:id).pluck(:email)}"
puts "explained #{!Post.where(id: 1).explain.empty?}"
puts "advisory #{connection.get_advisory_lock(42)} #{connection.release_advisory_lock(42)}"
ActiveRecord::Base.connection_pool.disconnect!
puts "deleted #{Post.where(author: author).delete_all}"
puts "threads #{(1..3).map { |n| Thread.new { ActiveRecord::Base.connection_pool.with_connection { Label.find(n).name } } }.map(&:value)}"
puts "done"
