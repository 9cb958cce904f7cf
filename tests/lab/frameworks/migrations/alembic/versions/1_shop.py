import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "1"
down_revision = None


def upgrade():
    people = op.create_table(
        "people",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("email", sa.String(320), nullable=False, unique=True, comment="where they are reached"),
        sa.Column("kind", sa.Enum("buyer", "seller", name="person_kind")),
        sa.Column("settings", postgresql.JSONB, server_default="{}"),
    )
    op.create_table(
        "purchases",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("person_id", sa.Integer, sa.ForeignKey("people.id", ondelete="CASCADE")),
    )
    op.bulk_insert(people, [{"email": "ada@example.com"}, {"email": "ben@example.com"}])


def downgrade():
    op.drop_table("purchases")
    op.drop_table("people")
    op.execute("DROP TYPE person_kind")
