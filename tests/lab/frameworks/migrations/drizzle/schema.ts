import { index, integer, jsonb, pgEnum, pgTable, pgView, serial, text, timestamp, uuid } from 'drizzle-orm/pg-core';
import { eq } from 'drizzle-orm';

export const kind = pgEnum('person_kind', ['buyer', 'seller']);
export const people = pgTable('people', {
  id: serial('id').primaryKey(),
  email: text('email').notNull().unique(),
  kind: kind('kind').default('buyer'),
  settings: jsonb('settings'),
  createdAt: timestamp('created_at', { withTimezone: true }).defaultNow(),
});
export const purchases = pgTable('purchases', {
  id: uuid('id').primaryKey().defaultRandom(),
  personId: integer('person_id').references(() => people.id, { onDelete: 'cascade' }),
}, (table) => [index('purchases_person').on(table.personId)]);
export const sellers = pgView('sellers').as((query) => query.select().from(people).where(eq(people.kind, 'seller')));
