//! What policy sees of one command: actions on resources, and what the command's protocol adds.
//!
//! Facts are complete: whatever a command does that its reader does not understand appears as an action of
//! its own ([`Action::SqlOther`], [`Action::SqlUnparsed`]) and never as an absence.
//!
//! Each protocol has its own file here, its block of actions in [`action`], and one arm in [`Resource`] and
//! in [`Detail`]. Both are closed enums: facts are compared and hashed as the keys of caches, and a new arm
//! makes the compiler list all code that must handle it.

mod action;
mod list;
mod resource;
mod sql;

pub use self::{
    action::{Action, Family},
    resource::Resource,
    sql::{Relation, SqlFacts, SqlResource},
};

/// One action on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Access {
    /// What is done.
    pub action: Action,
    /// To what.
    pub resource: Resource,
}

/// The facts of one command. Two commands with equal facts, in one session and under one bundle, get equal
/// decisions. This is why a decision can be cached by its facts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Every access the command makes: sorted, without duplicates, never empty.
    pub accesses: Vec<Access>,
    /// What the command's protocol adds.
    pub detail: Option<Detail>,
    /// Why the command is denied whatever the policies say; `None` leaves it to them. It is one short
    /// sentence for the client and the trail, worded by the code that read the command.
    pub barred: Option<Box<str>>,
}

/// What a protocol adds to the accesses of a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    /// Of an SQL command.
    Sql(SqlFacts),
}

impl Facts {
    /// The facts of opening a connection.
    pub fn connect() -> Self {
        let accesses = vec![Access { action: Action::Connect, resource: Resource::Upstream }];
        Self { accesses, detail: None, barred: None }
    }

    /// The facts of an SQL command of which only the action is known.
    pub fn of_sql(action: Action) -> Self {
        Self {
            accesses: vec![Access { action, resource: SqlResource::Database.into() }],
            detail: Some(Detail::Sql(SqlFacts::one_statement())),
            barred: None,
        }
    }

    /// What SQL adds, for an SQL command.
    pub fn sql(&self) -> Option<&SqlFacts> {
        self.detail.as_ref().map(|Detail::Sql(sql)| sql)
    }

    /// Adds everything that `other` does. Where both are barred, the first reason stays.
    pub fn join(&mut self, other: &Self) {
        list::join(&mut self.accesses, &other.accesses);
        match (&mut self.detail, &other.detail) {
            (Some(Detail::Sql(sql)), Some(Detail::Sql(more))) => sql.join(more),
            (detail @ None, more) => detail.clone_from(more),
            (Some(_), None) => {}
        }
        if self.barred.is_none() {
            self.barred.clone_from(&other.barred);
        }
    }

    /// Adds each access to a relation without a schema once more for each of `schemas`: the relation that the
    /// name stands for may be in one of them.
    pub fn in_schemas<'a>(&mut self, schemas: impl IntoIterator<Item = &'a str> + Clone) {
        let mut more = Vec::new();
        for Access { action, resource } in &self.accesses {
            if let Some(SqlResource::Table(Relation { schema: None, name })) = resource.sql() {
                more.extend(schemas.clone().into_iter().map(|schema| {
                    let relation = Relation { schema: Some(schema.into()), name: name.clone() };
                    Access { action: *action, resource: relation.into() }
                }));
            }
        }
        list::join(&mut self.accesses, &more);
    }

    /// How large the facts are: the one walk over them that all bounds are checked against.
    pub fn weight(&self) -> Weight {
        let mut weight = Weight { accesses: self.accesses.len(), ..Weight::default() };
        for bytes in self.accesses.iter().filter_map(|access| access.resource.name_bytes()) {
            weight.resource_names += 1;
            weight.name_bytes += bytes;
        }
        let names = self.detail.iter().flat_map(|Detail::Sql(sql)| sql.names());
        for name in names {
            weight.detail_names += 1;
            weight.name_bytes += name.len();
        }
        weight
    }
}

/// How large some [`Facts`] are. A job chooses the names and their number, so whoever keeps facts bounds
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Accesses.
    pub accesses: usize,
    /// Accesses whose resource the command itself names.
    pub resource_names: usize,
    /// Names in the detail, such as functions and settings.
    pub detail_names: usize,
    /// Bytes of all these names.
    pub name_bytes: usize,
}

impl Weight {
    /// About what an access takes beside its name.
    const ACCESS_BYTES: usize = 64;
    /// About what a name of the detail takes beside its text.
    const NAME_BYTES: usize = 32;
    /// About what facts take beside accesses and names.
    const FACTS_BYTES: usize = 64;

    /// How many items a decision on the facts looks at: the accesses and the detail's names.
    pub const fn items(self) -> usize {
        self.accesses + self.detail_names
    }

    /// How many names the command chose.
    pub const fn names(self) -> usize {
        self.resource_names + self.detail_names
    }

    /// About how many bytes of memory the facts take.
    pub const fn memory_bytes(self) -> usize {
        Self::FACTS_BYTES
            + self.accesses * Self::ACCESS_BYTES
            + self.detail_names * Self::NAME_BYTES
            + self.name_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(table: &str) -> Facts {
        let relation = Relation { schema: Some("public".into()), name: table.into() };
        let mut facts = Facts::of_sql(Action::SqlSelect);
        facts.accesses = vec![Access { action: Action::SqlSelect, resource: relation.into() }];
        facts
    }

    #[test]
    fn joined_facts_hold_what_either_does_sorted_and_once() {
        let mut facts = select("orders");
        facts.join(&select("customers"));
        facts.join(&select("orders"));
        facts.join(&Facts::connect());
        let mut expect = Facts::connect().accesses;
        expect.extend(select("customers").accesses);
        expect.extend(select("orders").accesses);
        assert_eq!(facts.accesses, expect);
        assert_eq!(facts.detail, select("orders").detail);
    }

    #[test]
    fn facts_without_detail_take_the_detail_they_are_joined_with() {
        let mut facts = Facts::connect();
        facts.join(&select("orders"));
        assert_eq!(facts.detail, select("orders").detail);
    }

    #[test]
    fn a_relation_without_a_schema_may_be_in_each_schema() {
        let mut facts = select("orders");
        let bare = Relation { schema: None, name: "salaries".into() };
        facts.accesses.push(Access { action: Action::SqlSelect, resource: bare.into() });
        facts.in_schemas(["hr", "public"]);
        let spelled: Vec<_> = facts
            .accesses
            .iter()
            .filter_map(|access| match access.resource.sql()? {
                SqlResource::Table(Relation { schema, name }) => {
                    Some(format!("{}.{name}", schema.as_deref().unwrap_or("?")))
                }
                SqlResource::Database => None,
            })
            .collect();
        assert_eq!(spelled, ["?.salaries", "hr.salaries", "public.orders", "public.salaries"]);
    }

    #[test]
    fn the_first_reason_to_bar_a_command_stays() {
        let barred = |reason: &str| Facts { barred: Some(reason.into()), ..select("orders") };
        let mut facts = select("orders");
        for reason in ["first", "second"] {
            facts.join(&barred(reason));
        }
        assert_eq!(facts.barred.as_deref(), Some("first"));
    }

    #[test]
    fn every_name_that_a_command_chose_is_weighed() {
        let mut facts = select("orders");
        facts.join(&Facts::connect());
        let Some(Detail::Sql(sql)) = &mut facts.detail else { panic!("SQL has a detail") };
        sql.functions = vec!["now".into(), "count".into()];
        sql.settings = vec!["role".into()];
        sql.search_path = vec![None, Some("hr".into())];
        let weight = facts.weight();
        let name_bytes = "publicordersnowcountrolehr".len();
        assert_eq!(weight, Weight { accesses: 2, resource_names: 1, detail_names: 5, name_bytes });
        assert_eq!((weight.items(), weight.names()), (7, 6));
        assert_eq!(weight.memory_bytes(), 64 + 2 * 64 + 5 * 32 + name_bytes);
    }
}
