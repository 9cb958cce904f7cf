import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade():
    op.add_column("people", sa.Column("note", sa.Text))
    op.execute("UPDATE people SET note = 'imported' WHERE note IS NULL")
    op.alter_column("people", "note", nullable=False)
    op.execute(
        """
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN NEW.note = 'touched'; RETURN NEW; END
        $$;
        CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
        INSERT INTO people (email, note) VALUES ('chloe@example.com', 'new');
        """
    )
    op.execute("DO $$ BEGIN PERFORM setval('people_id_seq', 100); END $$")
    with op.get_context().autocommit_block():
        op.create_index("people_note", "people", ["note"], postgresql_concurrently=True)
        op.execute("ALTER TYPE person_kind ADD VALUE IF NOT EXISTS 'both'")


def downgrade():
    with op.get_context().autocommit_block():
        op.drop_index("people_note", postgresql_concurrently=True)
    op.execute("DROP TRIGGER touch ON people; DROP FUNCTION touch();")
    op.drop_column("people", "note")
