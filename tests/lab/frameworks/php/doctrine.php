<?php
// Doctrine's DBAL, and PDO beneath it: connection, schema manager, nested transactions, locks, query builder.

use Doctrine\DBAL\DriverManager;
use Doctrine\DBAL\Exception\UniqueConstraintViolationException;
use Doctrine\DBAL\ParameterType;

require '/usr/share/php/Doctrine/DBAL/autoload.php';

foreach (['pdo_pgsql', 'pgsql'] as $driver) {
    $connection = DriverManager::getConnection([
        'driver' => $driver,
        'host' => getenv('PGHOST'),
        'port' => (int) getenv('PGPORT'),
        'dbname' => getenv('PGDATABASE'),
        'user' => getenv('PGUSER'),
        'password' => getenv('PGPASSWORD'),
        'charset' => 'utf8',
    ]);
    $connection->getDatabasePlatform()->registerDoctrineTypeMapping('mood', 'string');
    $connection->getDatabasePlatform()->registerDoctrineTypeMapping('_text', 'text');
    $manager = $connection->createSchemaManager();
    $names = $manager->listTableNames();
    sort($names);
    echo 'tables ', json_encode($names), "\n";
    $table = $manager->introspectTable('posts');
    echo 'columns ', json_encode(array_keys($table->getColumns())), "\n";
    echo 'keys ', count($table->getForeignKeys()), ' ', count($table->getIndexes()), "\n";
    echo 'sequences ', count($manager->listSequences()), ' views ', count($manager->listViews()), "\n";
    echo 'inserted ', $connection->insert('authors', ['name' => 'Cleo', 'email' => "$driver@example.com"]), "\n";
    $id = $connection->fetchOne('SELECT id FROM authors WHERE email = ?', ["$driver@example.com"]);
    $connection->setNestTransactionsWithSavepoints(true);
    $connection->beginTransaction();
    $connection->insert('posts', ['author_id' => $id, 'title' => 'first', 'published' => true],
        ['published' => ParameterType::BOOLEAN]);
    $connection->beginTransaction();
    try {
        $connection->insert('authors', ['name' => 'x', 'email' => 'ada@example.com']);
    } catch (UniqueConstraintViolationException $error) {
        echo 'savepoint ', $error->getSQLState(), "\n";
        $connection->rollBack();
    }
    echo 'locked ', $connection->fetchOne('SELECT title FROM posts WHERE author_id = ? FOR UPDATE', [$id]), "\n";
    $connection->commit();
    $query = $connection->createQueryBuilder();
    $query->select('a.name', 'count(*) AS n')->from('authors', 'a')->join('a', 'posts', 'p', 'p.author_id = a.id')
        ->where($query->expr()->in('a.id', ':ids'))->groupBy('a.name')->orderBy('a.name')
        ->setParameter('ids', [1, 2, $id], Doctrine\DBAL\ArrayParameterType::INTEGER);
    echo 'grouped ', json_encode($query->fetchAllAssociative()), "\n";
    echo 'updated ', $connection->update('posts', ['body' => 'new'], ['author_id' => $id]), "\n";
    $connection->setTransactionIsolation(Doctrine\DBAL\TransactionIsolationLevel::SERIALIZABLE);
    echo 'isolation ', $connection->fetchOne('SHOW transaction_isolation'), "\n";
    echo 'deleted ', $connection->delete('posts', ['author_id' => $id]), "\n";
    $connection->close();
}
$pdo = new PDO('pgsql:', getenv('PGUSER'), getenv('PGPASSWORD'), [
    PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
    PDO::ATTR_PERSISTENT => true,
    PDO::ATTR_EMULATE_PREPARES => false,
]);
$statement = $pdo->prepare('SELECT id FROM posts WHERE id = :id');
for ($number = 1; $number < 30; $number++) {
    $statement->execute(['id' => $number]);
}
echo 'prepared ', $statement->fetchColumn(), "\n";
$pdo->exec("INSERT INTO labels (name) VALUES ('pdo')");
echo 'last id ', $pdo->lastInsertId(), "\n";
$cursor = $pdo->prepare('SELECT id FROM posts ORDER BY id', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
$cursor->execute();
echo 'scrolled ', $cursor->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_ABS, 50)[0], "\n";
echo 'copied out ', count($pdo->pgsqlCopyToArray('labels')), "\n";
echo "done\n";
