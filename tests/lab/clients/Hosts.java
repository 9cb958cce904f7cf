// Connects by pgjdbc to the first of the hosts in HOSTS that lets it, and prints where it has come to, or the
// SQLSTATE of why it can't. The environment holds libpq's other variables, which pgjdbc does not read itself.

import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Properties;

public class Hosts {
  public static void main(String[] arguments) throws Exception {
    var environment = System.getenv();
    var properties = new Properties();
    properties.put("user", environment.get("PGUSER"));
    properties.put("password", environment.get("PGPASSWORD"));
    properties.put("sslmode", "disable");
    var url = "jdbc:postgresql://%s/%s".formatted(environment.get("HOSTS"), environment.get("PGDATABASE"));
    try (var connection = DriverManager.getConnection(url, properties);
        var answer = connection.createStatement().executeQuery("SELECT 1")) {
      answer.next();
      System.out.println("connected " + answer.getInt(1));
    } catch (SQLException error) {
      System.out.println("refused " + error.getSQLState());
    }
  }
}
