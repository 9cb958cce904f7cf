const url = { use_env_variable: 'DATABASE_URL', dialect: 'postgres', seederStorage: 'sequelize' };
module.exports = { development: url, test: url, production: url };
