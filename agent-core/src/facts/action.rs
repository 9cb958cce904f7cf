//! Every action that a command can make, in one block for each family of protocols.
//!
//! The names are what policies and the audit trail use: changing one breaks both.

use serde::{Serialize, Serializer};

/// Declares [`Action`] and [`Family`]: for each action its variant, its name and its group.
macro_rules! actions {
    ($(
        $(#[$family_doc:meta])*
        $family:ident = $root:literal {
            $($(#[$doc:meta])* $variant:ident = $name:literal in $group:literal;)*
        }
    )*) => {
        /// One thing a command does. Policies name it `Action::"<name>"`, or by one of its groups.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $($($(#[$doc])* $variant,)*)* }

        /// The actions that share a vocabulary: what policies can read of a command, and on which resources.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Family { $($(#[$family_doc])* $family,)* }

        impl Action {
            /// Every action.
            pub const ALL: &[Self] = &[$($(Self::$variant,)*)*];

            /// The action's name in policies and in the audit trail.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name,)*)* }
            }

            /// The action group it belongs to, or the empty string.
            pub const fn group(self) -> &'static str {
                match self { $($(Self::$variant => $group,)*)* }
            }

            /// The family it belongs to.
            pub const fn family(self) -> Family {
                match self { $($(Self::$variant => Family::$family,)*)* }
            }
        }

        impl Family {
            /// Every family.
            pub const ALL: &[Self] = &[$(Self::$family,)*];

            /// The action group above all groups of the family, or the empty string for a family without
            /// groups.
            pub const fn root(self) -> &'static str {
                match self { $(Self::$family => $root,)* }
            }
        }
    };
}

actions! {
    /// What can be done on any upstream, whatever it speaks.
    Connection = "" {
        /// Opening a connection to an upstream.
        Connect = "connect" in "";
    }

    /// SQL.
    Sql = "sql" {
        /// Reading rows: `SELECT`, `TABLE`, `VALUES`, the query of `INSERT … SELECT`, `DECLARE CURSOR`, a
        /// `RETURNING`'s other tables.
        SqlSelect = "sql:select" in "sql:read";
        /// `EXPLAIN`. With `ANALYZE`, the explained statement's own actions are added.
        SqlExplain = "sql:explain" in "sql:read";
        /// `SHOW`.
        SqlShow = "sql:show" in "sql:read";
        /// `COPY … TO STDOUT`.
        SqlCopyOut = "sql:copy-out" in "sql:read";
        /// `FETCH` and `MOVE`.
        SqlFetch = "sql:fetch" in "sql:read";
        /// `INSERT`.
        SqlInsert = "sql:insert" in "sql:write";
        /// `UPDATE`, but not `SELECT … FOR UPDATE`.
        SqlUpdate = "sql:update" in "sql:write";
        /// `DELETE`.
        SqlDelete = "sql:delete" in "sql:write";
        /// `MERGE`. The actions of its arms are added.
        SqlMerge = "sql:merge" in "sql:write";
        /// `COPY … FROM STDIN`.
        SqlCopyIn = "sql:copy-in" in "sql:write";
        /// `TRUNCATE`.
        SqlTruncate = "sql:truncate" in "sql:write";
        /// `LOCK TABLE` and `SELECT … FOR UPDATE/SHARE`.
        SqlLock = "sql:lock" in "sql:write";
        /// `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT`…, but not two-phase commit.
        SqlTransaction = "sql:transaction" in "sql:session";
        /// `PREPARE`. The prepared statement's own actions are added.
        SqlPrepare = "sql:prepare" in "sql:session";
        /// `EXECUTE`. The prepared statement's own actions are added.
        SqlExecute = "sql:execute" in "sql:session";
        /// `DEALLOCATE`, `CLOSE`, `DISCARD`, `UNLISTEN`.
        SqlDiscard = "sql:discard" in "sql:session";
        /// `LISTEN` and `NOTIFY`.
        SqlNotify = "sql:notify" in "sql:session";
        /// An empty statement.
        SqlEmpty = "sql:empty" in "sql:session";
        /// `CREATE …`, `SELECT … INTO`, `CREATE TABLE AS`.
        SqlCreate = "sql:create" in "sql:ddl";
        /// `ALTER …`, `COMMENT`, `RENAME`, `REFRESH MATERIALIZED VIEW`, `SECURITY LABEL`.
        SqlAlter = "sql:alter" in "sql:ddl";
        /// `DROP …`.
        SqlDrop = "sql:drop" in "sql:ddl";
        /// `GRANT`, `REVOKE`, `REASSIGN OWNED`, roles and default privileges.
        SqlGrant = "sql:grant" in "sql:ddl";
        /// `SET`, `RESET`, a call of `set_config`. The settings' names are in
        /// [`SqlFacts::settings`](super::SqlFacts::settings).
        SqlSet = "sql:set" in "sql:admin";
        /// `DO`, `CALL`, the FunctionCall protocol message: code whose effects the text does not show.
        SqlCall = "sql:call" in "sql:admin";
        /// `VACUUM`, `ANALYZE`, `CLUSTER`, `REINDEX`, `CHECKPOINT`.
        SqlMaintenance = "sql:maintenance" in "sql:admin";
        /// What reaches the server's host: `COPY` from or to a file or program there, `LOAD`, `ALTER SYSTEM`.
        SqlServer = "sql:server" in "sql:admin";
        /// A statement that the grammar understands and that is in none of the classes above.
        SqlOther = "sql:other" in "sql:admin";
        /// A text that the grammar refuses.
        SqlUnparsed = "sql:unparsed" in "sql:admin";
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_is_named_after_the_root_of_its_family() {
        for action in Action::ALL {
            let root = action.group().split(':').next().unwrap_or_default();
            assert_eq!(root, action.family().root(), "{}", action.name());
        }
    }
}
