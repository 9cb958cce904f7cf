//! Options of known programs whose values are secrets although their names do not say so.

/// What an option's value is.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// A secret if it is attached to the option. Without a value the program asks for the secret.
    Attached,
    /// A secret, attached or the next argument.
    Secret,
    /// `user:password`, attached or the next argument.
    Pair,
}

/// An option whose value is a secret.
pub(super) struct SecretOption {
    /// With its dashes.
    pub(super) name: &'static str,
    /// What its value is.
    pub(super) shape: Shape,
}

const fn option(name: &'static str, shape: Shape) -> SecretOption {
    SecretOption { name, shape }
}

const ATTACHED_P: &[SecretOption] = &[option("-p", Shape::Attached)];
const SMALL_P: &[SecretOption] = &[option("-p", Shape::Secret)];
const CAPITAL_P: &[SecretOption] = &[option("-P", Shape::Secret)];
const SMALL_A: &[SecretOption] = &[option("-a", Shape::Secret)];
const SMALL_W: &[SecretOption] = &[option("-w", Shape::Secret)];
const CURL: &[SecretOption] = &[
    option("--user", Shape::Pair),
    option("--proxy-user", Shape::Pair),
    option("-u", Shape::Pair),
    option("-U", Shape::Pair),
];

/// The options of each program. `login` is a subcommand of several (`docker login -p`).
const PROGRAMS: &[(&[&str], &[SecretOption])] = &[
    (
        &[
            "mariadb",
            "mariadb-admin",
            "mariadb-dump",
            "mariadb-import",
            "mysql",
            "mysqladmin",
            "mysqlcheck",
            "mysqldump",
            "mysqlimport",
            "mysqlpump",
            "mysqlsh",
            "mysqlshow",
            "7z",
            "7za",
            "7zr",
            "7zz",
        ],
        ATTACHED_P,
    ),
    (
        &["sshpass", "mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport", "login"],
        SMALL_P,
    ),
    (&["sqlcmd", "bcp", "isql", "zip", "unzip"], CAPITAL_P),
    (&["redis-cli", "valkey-cli", "keydb-cli"], SMALL_A),
    (&["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami", "ldappasswd"], SMALL_W),
    (&["curl"], CURL),
];

/// The secret options of the program that `word` names, if that is a known one.
pub(super) fn options_of(word: &str) -> Option<&'static [SecretOption]> {
    let name = word.rsplit('/').next()?;
    PROGRAMS.iter().find(|(names, _)| names.contains(&name)).map(|(_, options)| *options)
}
