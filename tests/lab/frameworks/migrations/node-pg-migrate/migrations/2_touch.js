exports.up = (pgm) => {
  pgm.addColumns('people', { updated_at: 'timestamptz', note: 'text' });
  pgm.createFunction('touch', [], { returns: 'trigger', language: 'plpgsql', replace: true },
    'BEGIN NEW.updated_at = now(); RETURN NEW; END');
  pgm.createTrigger('people', 'touch', { when: 'BEFORE', operation: 'UPDATE', level: 'ROW', function: 'touch' });
  pgm.createView('sellers', {}, "SELECT id, email FROM people WHERE kind = 'seller'");
  pgm.createMaterializedView('totals', {}, 'SELECT kind, count(*) FROM people GROUP BY kind');
  pgm.createSequence('tickets', { start: 100 });
  pgm.createPolicy('people', 'own', { using: 'true' });
  pgm.alterTable('people', { levelSecurity: 'ENABLE' });
};
exports.down = (pgm) => {
  pgm.alterTable('people', { levelSecurity: 'DISABLE' });
  pgm.dropPolicy('people', 'own');
  pgm.dropSequence('tickets');
  pgm.dropMaterializedView('totals');
  pgm.dropView('sellers');
  pgm.dropTrigger('people', 'touch');
  pgm.dropFunction('touch', []);
  pgm.dropColumns('people', ['updated_at', 'note']);
};
