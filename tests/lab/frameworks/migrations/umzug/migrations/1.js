exports.up = async ({ context: queryInterface }) => {
  await queryInterface.createTable('people', {
    id: { type: 'SERIAL', primaryKey: true },
    email: { type: 'TEXT', allowNull: false },
  });
  await queryInterface.bulkInsert('people', [{ email: 'ada@example.com' }]);
};
exports.down = ({ context: queryInterface }) => queryInterface.dropTable('people');
