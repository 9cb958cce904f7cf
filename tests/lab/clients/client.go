// The steps that every tested driver runs, with pgx: prints a line for each. The environment holds libpq's
// variables, and libpq's sslmode in MODE.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

func main() {
	background := context.Background()
	os.Setenv("PGSSLMODE", os.Getenv("MODE"))
	connection, err := pgx.Connect(background, "")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	value := func(text string, arguments ...interface{}) (found int) {
		if err := connection.QueryRow(background, text, arguments...).Scan(&found); err != nil {
			fmt.Println(err)
		}
		return
	}
	code := func(err error) string {
		var told *pgconn.PgError
		if errors.As(err, &told) {
			return told.Code
		}
		return fmt.Sprint(err)
	}
	execute := func(text string) string {
		_, err := connection.Exec(background, text)
		return code(err)
	}
	fmt.Println("select", value("SELECT 1"))
	byId := "SELECT id FROM orders WHERE id = $1"
	fmt.Println("prepared", value(byId, 41), value(byId, 42), value(byId, 43))
	fmt.Println("denied", execute("DROP TABLE orders"))
	transaction, _ := connection.Begin(background)
	transaction.Exec(background, "UPDATE orders SET status = $1 WHERE id = $2", "lost", 2001)
	_, err = transaction.Exec(background, "DELETE FROM orders")
	fmt.Println("denied", code(err))
	transaction.Rollback(background)
	fmt.Println("kept", value("SELECT count(*) FROM orders WHERE status = 'lost'"))
	batch := &pgx.Batch{}
	for number := 1; number < 20; number++ {
		batch.Queue("UPDATE orders SET status = $1 WHERE id = $2", "paid", number)
	}
	if err := connection.SendBatch(background, batch).Close(); err != nil {
		fmt.Println(err)
	}
	rows, _ := connection.Query(background, "SELECT * FROM orders")
	count := 0
	for rows.Next() {
		count++
	}
	fmt.Println("rows", count)
	fmt.Println("error", execute("SELECT 1/0"))
	patience, stop := context.WithTimeout(background, time.Second)
	defer stop()
	other, err := pgconn.Connect(background, "")
	if err != nil {
		fmt.Println(err)
	}
	done := make(chan string)
	go func() {
		done <- code(other.Exec(background, "SELECT count(*) FROM generate_series(1, 10000000000)").Close())
	}()
	<-patience.Done()
	other.CancelRequest(background)
	if <-done == "57014" {
		fmt.Println("cancelled")
	}
	fmt.Println("goes on", value("SELECT 2"))
	connection.Close(background)
}
