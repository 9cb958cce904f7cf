# DBD::Pg: prepared statements, transactions, savepoints, locks, arrays, COPY, metadata.

use strict;
use warnings;
use DBI;
use DBD::Pg qw(:pg_types);

my $db = DBI->connect("dbi:Pg:", undef, undef, { RaiseError => 1, PrintError => 0, AutoCommit => 1 });
print "server ", ($db->{pg_server_version} > 0), " ", $db->{pg_enable_utf8}, " ", $db->ping, "\n";
print "tables ", join(" ", sort $db->tables(undef, "public", "%", "TABLE")), "\n";
my $columns = $db->column_info(undef, "public", "authors", "%")->fetchall_arrayref;
print "columns ", join(" ", map { "$_->[3]:$_->[5]" } @$columns), "\n";
print "primary ", join(" ", $db->primary_key(undef, "public", "posts")), "\n";
my $keys = $db->foreign_key_info(undef, "public", "authors", undef, "public", "posts")->fetchall_arrayref;
print "foreign ", scalar(@$keys), "\n";
my $indexes = $db->statistics_info(undef, "public", "posts", 0, 0)->fetchall_arrayref;
print "indexes ", scalar(@$indexes), "\n";
my $insert = $db->prepare("INSERT INTO authors (name, email, keywords) VALUES (?, ?, ?) RETURNING id");
$insert->execute("Cleo", 'cleo@example.com', ["a", "b"]);
my ($id) = $insert->fetchrow_array;
print "inserted $id ", $db->last_insert_id(undef, "public", "authors", undef), "\n";
$db->begin_work;
my $post = $db->prepare("INSERT INTO posts (author_id, title) VALUES (?, ?)");
$post->execute_array({}, [ ($id) x 20 ], [ map { "bulk $_" } 1 .. 20 ]);
$db->pg_savepoint("here");
eval { $db->do("INSERT INTO authors (name, email) VALUES ('x', ?)", undef, 'ada@example.com') };
print "duplicate ", $db->state, "\n";
$db->pg_rollback_to("here");
$db->pg_release("here");
my ($title) = $db->selectrow_array("SELECT title FROM posts WHERE author_id = ? ORDER BY id FOR UPDATE", undef, $id);
print "locked $title\n";
$db->commit;
my $by_id = $db->prepare("SELECT id FROM posts WHERE id = ?");
my $sum = 0;
for my $number (1 .. 40) {
    $sum += $db->selectrow_array($by_id, undef, $number);
}
print "prepared $sum\n";
$db->do("COPY (SELECT name FROM labels ORDER BY id) TO STDOUT");
my ($line, @copied);
push @copied, $line =~ s/\n//r while $db->pg_getcopydata($line) >= 0;
print "copied out @copied\n";
print "updated ", $db->do("UPDATE posts SET version = 2 WHERE author_id = ?", undef, $id), "\n";
print "deleted ", $db->do("DELETE FROM posts WHERE author_id = ?", undef, $id), "\n";
$db->disconnect;
print "done\n";
