# What `rails db:migrate`, `db:migrate:status`, `db:rollback`, `db:schema:dump`, `db:schema:load` and
# `db:truncate_all` call.
require 'active_record'
require 'stringio'

ActiveRecord::Base.establish_connection(ENV.fetch('DATABASE_URL'))
ActiveRecord::Migration.verbose = false
context = ActiveRecord::MigrationContext.new('migrate', ActiveRecord::SchemaMigration)
connection = ActiveRecord::Base.connection
case ARGV.first
when 'up' then context.migrate
when 'status' then context.migrations_status.each { |line| puts line.join(' ') }
when 'down' then context.rollback(3)
when 'dump'
  File.open(ARGV.last, 'w') { |file| ActiveRecord::SchemaDumper.dump(connection, file) }
  puts File.read(ARGV.last)
when 'load'
  load ARGV.last
when 'truncate' then connection.truncate_tables(*(connection.tables - %w[schema_migrations ar_internal_metadata]))
end
