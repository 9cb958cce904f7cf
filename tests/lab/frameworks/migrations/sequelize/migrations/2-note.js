module.exports = {
  up: (queryInterface, Sequelize) => queryInterface.sequelize.transaction(async (transaction) => {
    await queryInterface.addColumn('people', 'note', Sequelize.TEXT, { transaction });
    await queryInterface.changeColumn('people', 'email', { type: Sequelize.STRING(320), allowNull: false },
      { transaction });
    await queryInterface.changeColumn('people', 'kind', { type: Sequelize.ENUM('buyer', 'seller', 'both') },
      { transaction });
    await queryInterface.renameColumn('people', 'settings', 'preferences', { transaction });
    await queryInterface.sequelize.query("UPDATE people SET note = 'none' WHERE note IS NULL", { transaction });
    await queryInterface.addConstraint('people', { fields: ['email'], type: 'check', name: 'has_at',
      where: { email: { [Sequelize.Op.like]: '%@%' } }, transaction });
    await queryInterface.createFunction('twice', [{ type: 'integer', name: 'n' }], 'integer', 'plpgsql',
      'RETURN 2 * n;', ['IMMUTABLE']);
  }),
  down: (queryInterface) => queryInterface.sequelize.transaction(async (transaction) => {
    await queryInterface.dropFunction('twice', [{ type: 'integer', name: 'n' }]);
    await queryInterface.removeConstraint('people', 'has_at', { transaction });
    await queryInterface.renameColumn('people', 'preferences', 'settings', { transaction });
    await queryInterface.removeColumn('people', 'note', { transaction });
  }),
};
