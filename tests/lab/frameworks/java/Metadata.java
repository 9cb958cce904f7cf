// pgjdbc: what DBeaver, Metabase, Hibernate and Flyway ask of a database's metadata, setSchema, savepoints,
// batches with keys, cursors, COPY and locks. Prints a line for each step.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import java.util.TreeSet;
import org.postgresql.PGConnection;

public class Metadata {
  static Connection connection;

  static String all(ResultSet rows, String... columns) throws SQLException {
    var found = new TreeSet<String>();
    while (rows.next()) {
      var row = new StringBuilder();
      for (var column : columns) {
        row.append(rows.getString(column)).append(' ');
      }
      found.add(row.toString().trim());
    }
    rows.close();
    return found.toString();
  }

  static String query(String text) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(text)) {
      rows.next();
      return rows.getString(1);
    }
  }

  static void browse(DatabaseMetaData data) throws SQLException {
    System.out.println("product " + data.getDatabaseProductName() + " " + data.getMaxColumnNameLength());
    System.out.println("catalogs " + !all(data.getCatalogs(), "TABLE_CAT").isEmpty());
    System.out.println("schemas " + all(data.getSchemas(), "TABLE_SCHEM").contains("public"));
    System.out.println("kinds " + all(data.getTableTypes(), "TABLE_TYPE"));
    System.out.println("types " + all(data.getTypeInfo(), "TYPE_NAME").contains("jsonb"));
    System.out.println("tables "
        + all(data.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"}), "TABLE_NAME", "TABLE_TYPE"));
    System.out.println("columns "
        + all(data.getColumns(null, "public", "authors", "%"), "COLUMN_NAME", "TYPE_NAME", "IS_AUTOINCREMENT"));
    System.out.println("primary " + all(data.getPrimaryKeys(null, "public", "posts"), "PK_NAME", "COLUMN_NAME"));
    System.out.println("indexes "
        + all(data.getIndexInfo(null, "public", "posts", false, true), "INDEX_NAME", "NON_UNIQUE"));
    System.out.println("imported " + all(data.getImportedKeys(null, "public", "posts"), "FK_NAME", "PKTABLE_NAME"));
    System.out.println("exported " + all(data.getExportedKeys(null, "public", "posts"), "FK_NAME", "FKTABLE_NAME"));
    System.out.println("crossed "
        + all(data.getCrossReference(null, "public", "authors", null, "public", "posts"), "FK_NAME"));
    System.out.println("rights " + all(data.getTablePrivileges(null, "public", "posts"), "PRIVILEGE"));
    System.out.println("functions " + all(data.getFunctions(null, "pg_catalog", "lower"), "FUNCTION_NAME"));
    System.out.println("procedures " + all(data.getProcedures(null, "public", "%"), "PROCEDURE_NAME"));
    System.out.println("udts " + all(data.getUDTs(null, "public", "%", null), "TYPE_NAME"));
    System.out.println("best " + all(data.getBestRowIdentifier(null, "public", "labels", 1, true), "COLUMN_NAME"));
    System.out.println("clients " + data.getClientInfoProperties().next());
    System.out.println("keywords " + !data.getSQLKeywords().isEmpty());
  }

  static void change() throws SQLException {
    connection.setAutoCommit(false);
    connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
    try (var insert = connection.prepareStatement(
        "INSERT INTO labels (name) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
      for (int number = 0; number < 20; number++) {
        insert.setString(1, "batch " + number);
        insert.addBatch();
      }
      System.out.println("batch " + insert.executeBatch().length + all(insert.getGeneratedKeys(), "id").length());
    }
    var savepoint = connection.setSavepoint("here");
    try (var statement = connection.createStatement()) {
      statement.executeUpdate("INSERT INTO labels (name) VALUES ('news')");
    } catch (SQLException error) {
      System.out.println("duplicate " + error.getSQLState());
      connection.rollback(savepoint);
    }
    System.out.println("locked " + query("SELECT name FROM labels WHERE id = 1 FOR UPDATE"));
    try (var cursor = connection.createStatement()) {
      cursor.setFetchSize(30);
      System.out.println("cursor " + all(cursor.executeQuery("SELECT id FROM posts"), "id").length());
    }
    connection.commit();
    try (var rows = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)
        .executeQuery("SELECT id, name FROM labels WHERE id = 2")) {
      rows.next();
      rows.updateString("name", "changed");
      rows.updateRow();
    }
    connection.commit();
    connection.setAutoCommit(true);
    System.out.println("updated " + query("SELECT name FROM labels WHERE id = 2"));
  }

  public static void main(String[] arguments) throws Exception {
    var environment = System.getenv();
    var properties = new Properties();
    properties.put("user", environment.get("PGUSER"));
    properties.put("password", environment.get("PGPASSWORD"));
    properties.put("sslmode", "disable");
    properties.put("ApplicationName", "jdbc");
    properties.put("reWriteBatchedInserts", arguments[0]);
    var url = "jdbc:postgresql://%s:%s/%s?currentSchema=%s".formatted(environment.get("PGHOST"),
        environment.get("PGPORT"), environment.get("PGDATABASE"), "public");
    connection = DriverManager.getConnection(url, properties);
    System.out.println("valid " + connection.isValid(5) + " " + connection.getSchema());
    connection.setSchema("public");
    connection.setClientInfo("ApplicationName", "metadata");
    browse(connection.getMetaData());
    change();
    var out = new StringWriter();
    var copy = connection.unwrap(PGConnection.class).getCopyAPI();
    System.out.println("copied out " + copy.copyOut("COPY (SELECT id FROM posts) TO STDOUT", out));
    if (arguments.length > 1) {
      System.out.println("copied in " + copy.copyIn("COPY labels (name) FROM STDIN", new StringReader("x\ny\n")));
      try (Statement statement = connection.createStatement()) {
        statement.execute("LISTEN news");
        statement.execute("NOTIFY news, 'one'; SELECT 1");
        var heard = connection.unwrap(PGConnection.class).getNotifications(10000);
        System.out.println("heard " + heard[0].getParameter());
      }
    }
    connection.setReadOnly(true);
    System.out.println("read only " + query("SHOW transaction_read_only"));
    connection.close();
    System.out.println("done");
  }
}
