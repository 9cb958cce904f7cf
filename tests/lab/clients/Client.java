// The steps that every tested driver runs, with pgjdbc: prints a line for each. The environment holds libpq's
// variables, which pgjdbc does not read itself, and libpq's sslmode in MODE.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

public class Client {
  static Connection connection;

  static String value(String text) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(text)) {
      rows.next();
      return rows.getString(1);
    }
  }

  static String code(String text) {
    try (Statement statement = connection.createStatement()) {
      statement.execute(text);
      return "none";
    } catch (SQLException error) {
      return error.getSQLState();
    }
  }

  public static void main(String[] arguments) throws SQLException {
    var environment = System.getenv();
    var properties = new Properties();
    properties.put("user", environment.get("PGUSER"));
    properties.put("password", environment.get("PGPASSWORD"));
    properties.put("sslmode", environment.get("MODE"));
    if (environment.get("MODE").equals("verify-full")) {
      properties.put("sslrootcert", environment.get("PGSSLROOTCERT"));
    }
    var url = "jdbc:postgresql://%s:%s/%s"
        .formatted(environment.get("PGHOST"), environment.get("PGPORT"), environment.get("PGDATABASE"));
    connection = DriverManager.getConnection(url, properties);
    System.out.println("select " + value("SELECT 1"));
    var prepared = new StringBuilder("prepared");
    // From the fifth execution on, pgjdbc uses a named statement at the server.
    try (PreparedStatement statement = connection.prepareStatement("SELECT id FROM orders WHERE id = ?")) {
      for (int number = 35; number <= 43; number++) {
        statement.setInt(1, number);
        try (ResultSet rows = statement.executeQuery()) {
          rows.next();
          if (number > 40) {
            prepared.append(" ").append(rows.getInt(1));
          }
        }
      }
    }
    System.out.println(prepared);
    System.out.println("denied " + code("DROP TABLE orders"));
    connection.setAutoCommit(false);
    code("UPDATE orders SET status = 'lost' WHERE id = 2001");
    System.out.println("denied " + code("DELETE FROM orders"));
    connection.rollback();
    connection.setAutoCommit(true);
    System.out.println("kept " + value("SELECT count(*) FROM orders WHERE status = 'lost'"));
    try (PreparedStatement batch = connection.prepareStatement("UPDATE orders SET status = ? WHERE id = ?")) {
      for (int number = 1; number < 20; number++) {
        batch.setString(1, "paid");
        batch.setInt(2, number);
        batch.addBatch();
      }
      batch.executeBatch();
    }
    connection.setAutoCommit(false);
    int count = 0;
    try (Statement statement = connection.createStatement()) {
      statement.setFetchSize(100);
      try (ResultSet rows = statement.executeQuery("SELECT * FROM orders")) {
        while (rows.next()) {
          count++;
        }
      }
    }
    connection.commit();
    connection.setAutoCommit(true);
    System.out.println("rows " + count);
    System.out.println("error " + code("SELECT 1/0"));
    try (Statement statement = connection.createStatement()) {
      statement.setQueryTimeout(1);
      statement.executeQuery("SELECT count(*) FROM generate_series(1, 10000000000)");
    } catch (SQLException error) {
      System.out.println(error.getSQLState().equals("57014") ? "cancelled" : error.toString());
    }
    System.out.println("goes on " + value("SELECT 2"));
    connection.close();
  }
}
