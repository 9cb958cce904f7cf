module.exports = class Shop1700000000001 {
  async up(queryRunner) {
    await queryRunner.query('CREATE EXTENSION IF NOT EXISTS "uuid-ossp"');
    await queryRunner.query(`CREATE TYPE "public"."people_kind_enum" AS ENUM('buyer', 'seller')`);
    await queryRunner.query(`CREATE TABLE "people" ("id" SERIAL NOT NULL, "email" character varying NOT NULL,
      "kind" "public"."people_kind_enum" NOT NULL DEFAULT 'buyer', "token" uuid NOT NULL DEFAULT uuid_generate_v4(),
      CONSTRAINT "UQ_people_email" UNIQUE ("email"), CONSTRAINT "PK_people" PRIMARY KEY ("id"))`);
    await queryRunner.query(`INSERT INTO "people" ("email") VALUES ('ada@example.com')`);
  }
  async down(queryRunner) {
    await queryRunner.query('DROP TABLE "people"');
    await queryRunner.query('DROP TYPE "public"."people_kind_enum"');
    await queryRunner.query('DROP EXTENSION "uuid-ossp"');
  }
};
