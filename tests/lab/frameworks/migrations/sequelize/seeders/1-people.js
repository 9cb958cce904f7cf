const when = new Date(0);
module.exports = {
  up: (queryInterface) => queryInterface.bulkInsert('people',
    [{ email: 'ada@example.com', createdAt: when, updatedAt: when }]),
  down: (queryInterface) => queryInterface.bulkDelete('people', { email: 'ada@example.com' }, {}),
};
