CREATE TYPE "public"."person_kind" AS ENUM('buyer', 'seller');--> statement-breakpoint
CREATE TABLE "people" (
	"id" serial PRIMARY KEY NOT NULL,
	"email" text NOT NULL,
	"kind" "person_kind" DEFAULT 'buyer',
	"settings" jsonb,
	"created_at" timestamp with time zone DEFAULT now(),
	CONSTRAINT "people_email_unique" UNIQUE("email")
);
--> statement-breakpoint
CREATE TABLE "purchases" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"person_id" integer
);
--> statement-breakpoint
ALTER TABLE "purchases" ADD CONSTRAINT "purchases_person_id_people_id_fk" FOREIGN KEY ("person_id") REFERENCES "public"."people"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "purchases_person" ON "purchases" USING btree ("person_id");--> statement-breakpoint
CREATE VIEW "public"."sellers" AS (select "id", "email", "kind", "settings", "created_at" from "people" where "people"."kind" = 'seller');