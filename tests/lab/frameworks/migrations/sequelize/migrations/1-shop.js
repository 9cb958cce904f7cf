module.exports = {
  async up(queryInterface, Sequelize) {
    await queryInterface.createTable('people', {
      id: { type: Sequelize.INTEGER, primaryKey: true, autoIncrement: true },
      email: { type: Sequelize.STRING, allowNull: false, unique: true },
      kind: { type: Sequelize.ENUM('buyer', 'seller'), defaultValue: 'buyer' },
      settings: Sequelize.JSONB,
      createdAt: { type: Sequelize.DATE, allowNull: false },
      updatedAt: { type: Sequelize.DATE, allowNull: false },
    }, { comment: 'who buys and sells' });
    await queryInterface.createTable('purchases', {
      id: { type: Sequelize.UUID, primaryKey: true, defaultValue: Sequelize.literal('gen_random_uuid()') },
      personId: { type: Sequelize.INTEGER, references: { model: 'people', key: 'id' }, onDelete: 'CASCADE' },
    });
    await queryInterface.addIndex('purchases', ['personId']);
  },
  async down(queryInterface) {
    await queryInterface.dropTable('purchases');
    await queryInterface.dropTable('people');
    await queryInterface.sequelize.query('DROP TYPE IF EXISTS "enum_people_kind"');
  },
};
