//! Options of known programs whose values are secrets although the options' names do not say so.

/// Where an option's value stands, and how much of the value is secret. A value is attached if it stands in
/// the same argument as the option: right after a short option (`-pVALUE`), after `=` for a long one
/// (`--user=VALUE`).
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Attached, and secret. If nothing is attached, the program prompts for the secret: the next argument is
    /// something else.
    Attached,
    /// Attached or the next argument, and secret.
    Secret,
    /// Attached or the next argument. It is `user:password`, of which the password is secret.
    Pair,
}

/// An option whose value is a secret.
pub(super) struct SecretOption {
    /// The option, with its dashes.
    pub(super) name: &'static str,
    /// What its value looks like.
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

/// The secret options of each known program. `login` is a subcommand of several programs
/// (`docker login -p`).
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

/// The secret options of the program that `word` names, with or without a directory; `None` if the program is
/// not known.
pub(super) fn options_of(word: &str) -> Option<&'static [SecretOption]> {
    let name = word.rsplit('/').next()?;
    PROGRAMS.iter().find(|(names, _)| names.contains(&name)).map(|(_, options)| *options)
}
