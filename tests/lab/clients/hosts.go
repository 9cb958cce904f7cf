// Connects by pgx to the first of the hosts in PGHOST that lets it, and prints that it has, or the SQLSTATE of
// why it can't.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

func main() {
	connection, err := pgx.Connect(context.Background(), "sslmode=disable")
	var told *pgconn.PgError
	if errors.As(err, &told) {
		fmt.Println("refused", told.Code)
		return
	}
	if err != nil {
		fmt.Println("refused", errors.Unwrap(errors.Unwrap(err)))
		return
	}
	var value int
	err = connection.QueryRow(context.Background(), "SELECT 1").Scan(&value)
	fmt.Println("connected", value, err)
}
