const { TableColumn, TableIndex, TableCheck } = require('typeorm');

module.exports = class Note1700000000002 {
  async up(queryRunner) {
    await queryRunner.addColumn('people', new TableColumn({ name: 'note', type: 'text', isNullable: true }));
    await queryRunner.createIndex('people', new TableIndex({ name: 'people_note', columnNames: ['note'] }));
    await queryRunner.createCheckConstraint('people', new TableCheck({ name: 'has_at', expression: `"email" LIKE '%@%'` }));
    await queryRunner.renameColumn('people', 'token', 'secret');
  }
  async down(queryRunner) {
    await queryRunner.renameColumn('people', 'secret', 'token');
    await queryRunner.dropCheckConstraint('people', 'has_at');
    await queryRunner.dropIndex('people', 'people_note');
    await queryRunner.dropColumn('people', 'note');
  }
};
