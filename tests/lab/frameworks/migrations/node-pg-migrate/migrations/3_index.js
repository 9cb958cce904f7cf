exports.up = (pgm) => {
  pgm.noTransaction();
  pgm.createIndex('people', 'note', { concurrently: true });
};
exports.down = (pgm) => {
  pgm.noTransaction();
  pgm.dropIndex('people', 'note', { concurrently: true });
};
