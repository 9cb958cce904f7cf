<?php
// Laravel's database layer: connection, query builder, Eloquent, nested transactions, locks, upserts, schema.

use Illuminate\Database\Capsule\Manager;
use Illuminate\Database\Eloquent\Model;

require '/usr/share/php/Illuminate/Database/autoload.php';

$manager = new Manager();
$manager->addConnection([
    'driver' => 'pgsql',
    'host' => getenv('PGHOST'),
    'port' => getenv('PGPORT'),
    'database' => getenv('PGDATABASE'),
    'username' => getenv('PGUSER'),
    'password' => getenv('PGPASSWORD'),
    'charset' => 'utf8',
    'timezone' => 'UTC',
    'schema' => 'public',
    'application_name' => 'laravel',
    'sslmode' => 'prefer',
]);
$manager->setAsGlobal();
$manager->bootEloquent();

class Author extends Model
{
    public $timestamps = false;
    protected $guarded = [];
    protected $casts = ['settings' => 'array'];

    public function posts()
    {
        return $this->hasMany(Post::class);
    }
}

class Label extends Model
{
    public $timestamps = false;
    protected $guarded = [];
}

class Post extends Model
{
    public $timestamps = false;
    protected $guarded = [];

    public function author()
    {
        return $this->belongsTo(Author::class);
    }

    public function labels()
    {
        return $this->belongsToMany(Label::class, 'post_labels');
    }
}

$schema = Manager::schema();
$table = fn (string $name) => Manager::table($name);
echo 'schema ', json_encode([$schema->hasTable('posts'), $schema->getColumnListing('authors')]), "\n";
$author = Author::create(['name' => 'Cleo', 'email' => 'cleo@example.com', 'settings' => ['theme' => 'dark']]);
$author->posts()->createMany(array_map(fn ($n) => ['title' => "bulk $n"], range(1, 10)));
echo 'created ', json_encode([$author->id, $author->fresh()->mood, $author->posts()->count()]), "\n";
Manager::connection()->transaction(function () use ($author) {
    $post = $author->posts()->create(['title' => 'first']);
    $post->labels()->sync([1, 2]);
    try {
        Manager::connection()->transaction(function () {
            Author::create(['name' => 'x', 'email' => 'ada@example.com']);
        });
    } catch (Illuminate\Database\QueryException $error) {
        echo 'savepoint ', $error->getCode(), "\n";
    }
    echo 'locked ', Post::where('title', 'first')->lockForUpdate()->first()->title, "\n";
    echo 'shared ', Post::where('title', 'first')->sharedLock()->value('title'), "\n";
});
echo 'upsert ', Author::upsert([['name' => 'Cleo II', 'email' => 'cleo@example.com']], ['email'], ['name']), "\n";
echo 'ignored ', $table('labels')->insertOrIgnore([['name' => 'news'], ['name' => 'fresh']]), "\n";
echo 'first or create ', Label::firstOrCreate(['name' => 'fresh'])->wasRecentlyCreated ? 'new' : 'old', "\n";
echo 'updated ', $table('posts')->where('title', 'like', 'bulk%')->increment('version', 2), "\n";
$eager = Post::with('labels', 'author')->where('title', 'first')->get()->map(
    fn ($post) => [$post->title, $post->author->name, $post->labels->pluck('name')->sort()->values()]
);
echo 'eager ', json_encode($eager), "\n";
echo 'json ', json_encode($table('authors')->where('settings->theme', 'dark')->orderBy('id')->pluck('email')), "\n";
$count = 0;
foreach ($table('posts')->orderBy('id')->cursor() as $row) {
    $count += $row->id ? 1 : 0;
}
$table('posts')->orderBy('id')->chunk(50, function ($rows) use (&$count) {
    $count += count($rows);
});
echo "streamed $count\n";
echo 'raw ', json_encode(Manager::select('SELECT name FROM labels WHERE id = ?', [1])), "\n";
echo 'deleted ', $author->posts()->delete(), "\n";
echo "done\n";
