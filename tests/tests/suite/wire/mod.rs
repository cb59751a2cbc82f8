//! The PostgreSQL protocol from outside: a client without manners, real drivers, real tools.

mod attacks;
mod blocks;
mod copying;
mod drivers;
mod execution;
mod startup;
mod tools;

use countersign_tests::overhear::Overhear;
use countersign_tests::postgres::Postgres;
use countersign_tests::raw::Raw;
use countersign_tests::world::{TARGET, World, WorldOptions};

/// carol reads; alice reads, locks, and changes with bob's approval; dave does as he likes.
const POLICY: &str = r#"
@id("readers-read")
permit (principal in Group::"readers", action in Action::"look", resource == Target::"shop");
@id("engineers-look-and-lock")
permit (principal in Group::"engineering", action in [Action::"look", Action::"lock"], resource == Target::"shop");
@id("changes-wait") @hold @approvers("dba") @expires("10m")
permit (principal in Group::"engineering", action == Action::"write", resource == Target::"shop");
@id("brief-is-brief") @hold @approvers("dba") @expires("10s")
permit (principal in Group::"engineering", action == Action::"write", resource == Target::"shop")
when { context.tables.contains("brief") };
@id("free")
permit (principal in Group::"free", action in Action::"any", resource == Target::"shop");
@id("dbas-audit")
permit (principal in Group::"dba", action in [Action::"audit", Action::"watch"], resource == Gateway::"gateway");
"#;

const SCRIPT: &str = "
    create table t (id integer primary key, note text);
    insert into t select n, 'row ' || n from generate_series(1, 10) as n;
    create table secret (id integer primary key, note text);
    insert into secret select n, 'row ' || n from generate_series(1, 10) as n;
    create table brief (id integer primary key);
    insert into brief values (1);
    create schema other;
    create table other.t (id integer primary key, note text);
    create function bump() returns integer language sql as 'insert into t values (1000) returning id';
    create function other.lower(text) returns text language sql as 'delete from public.secret returning note';
    create domain loud as integer check (value < 100);
";

/// The gateway with these lines in its `[limits]`.
pub fn options(limits: &str) -> WorldOptions {
    let mut options = WorldOptions::default();
    options.gateway.limits = limits.to_owned();
    options
}

/// A world whose gateway's words to the server are overheard.
pub struct Ground {
    pub world: World,
    pub ear: Overhear,
}

impl Ground {
    pub async fn start() -> Self {
        Self::with(WorldOptions::default()).await
    }

    /// The same with other limits and the like; policy, script and people are this module's.
    pub async fn with(options: WorldOptions) -> Self {
        let server = Postgres::shared().await.unwrap();
        let ear = Overhear::before(&server).await.unwrap();
        let options = WorldOptions {
            policy: POLICY.to_owned(),
            script: SCRIPT.to_owned(),
            people: vec![
                ("alice", vec!["engineering"]),
                ("bob", vec!["dba"]),
                ("carol", vec!["readers"]),
                ("dave", vec!["free"]),
            ],
            server_port: Some(ear.port()),
            in_the_clear: true,
            ..options
        };
        let world = World::start_on(server, options).await.unwrap();
        Self { world, ear }
    }

    pub async fn raw(&self, name: &str) -> Raw {
        Raw::connect(&self.world.gateway, name, TARGET).await.unwrap()
    }

    /// Every row that the tables of the script began with is still there.
    pub async fn untouched(&self, what: &str) {
        for table in ["t", "secret"] {
            let rows = self.world.count(&format!("select count(*) from public.{table}")).await;
            assert_eq!(rows.unwrap(), 10, "{what}: {table}");
        }
    }

    /// Locks that sessions hold on a table.
    pub async fn locks(&self, table: &str) -> i64 {
        let locks = format!(
            "select count(*) from pg_locks where relation = 'public.{table}'::regclass and pid <> pg_backend_pid()"
        );
        self.world.count(&locks).await.unwrap()
    }

    /// Sessions of people inside a transaction.
    pub async fn in_transaction(&self) -> i64 {
        let idle = "select count(*) from pg_stat_activity where datname = current_database()
                    and state like 'idle in transaction%'";
        self.world.count(idle).await.unwrap()
    }
}
