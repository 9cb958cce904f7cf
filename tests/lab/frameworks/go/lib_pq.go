// lib/pq on database/sql: pool, prepared statements, transactions, savepoints, locks, arrays, COPY, LISTEN.
// Prints a line for each step.
package main

import (
	"database/sql"
	"fmt"
	"os"
	"time"

	"github.com/lib/pq"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	os.Setenv("PGSSLMODE", "disable")
	db, err := sql.Open("postgres", "")
	must(err)
	db.SetMaxOpenConns(4)
	must(db.Ping())
	value := func(text string, arguments ...interface{}) (found string) {
		must(db.QueryRow(text, arguments...).Scan(&found))
		return
	}
	fmt.Println("inserted", value("INSERT INTO authors (name, email, keywords) VALUES ($1, $2, $3) RETURNING id",
		"Cleo", "cleo@example.com", pq.Array([]string{"a", "b"})))
	statement, err := db.Prepare("SELECT id FROM posts WHERE id = $1")
	must(err)
	sum := 0
	for number := 1; number < 40; number++ {
		var id int
		must(statement.QueryRow(number).Scan(&id))
		sum += id
	}
	fmt.Println("prepared", sum)
	transaction, err := db.Begin()
	must(err)
	_, err = transaction.Exec("SAVEPOINT here")
	must(err)
	_, err = transaction.Exec("INSERT INTO authors (name, email) VALUES ('x', 'ada@example.com')")
	fmt.Println("duplicate", err.(*pq.Error).Code)
	_, err = transaction.Exec("ROLLBACK TO here")
	must(err)
	var title string
	must(transaction.QueryRow("SELECT title FROM posts WHERE id = 1 FOR UPDATE").Scan(&title))
	fmt.Println("locked", title)
	must(transaction.Commit())
	result, err := db.Exec("UPDATE posts SET version = 2 WHERE id = ANY($1)", pq.Array([]int{1, 2, 3}))
	must(err)
	count, _ := result.RowsAffected()
	fmt.Println("updated", count)
	if len(os.Args) > 1 {
		listener := pq.NewListener("", time.Second, time.Minute, nil)
		must(listener.Listen("news"))
		transaction, err = db.Begin()
		must(err)
		copying, err := transaction.Prepare(pq.CopyIn("labels", "name"))
		must(err)
		for number := 0; number < 10; number++ {
			_, err = copying.Exec(fmt.Sprint("copied ", number))
			must(err)
		}
		_, err = copying.Exec()
		must(err)
		must(copying.Close())
		must(transaction.Commit())
		fmt.Println("copied", value("SELECT count(*) FROM labels WHERE name LIKE 'copied%'"))
		_, err = db.Exec("SELECT pg_notify('news', 'one')")
		must(err)
		fmt.Println("heard", (<-listener.Notify).Extra)
		must(listener.Close())
	}
	must(db.Close())
	fmt.Println("done")
}
