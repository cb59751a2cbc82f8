//! PostgreSQL's own programs through the gateway: for a policy that allows to look, no false alarm.

use super::Ground;
use countersign_tests::world::TARGET;
use std::process::Command;

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let words = (command.get_program(), command.get_args().collect::<Vec<_>>());
    assert!(
        output.status.success() && !err.contains("ERROR"),
        "{words:?}: {err}\n{out}"
    );
    out.into_owned()
}

fn program(ground: &Ground, name: &str, program: &str) -> Command {
    let mut command = Command::new(program);
    command.envs(ground.world.gateway.environment(name, TARGET));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_describes_what_there_is() {
    let ground = Ground::start().await;
    for text in [
        r"\d",
        r"\d t",
        r"\d+ t",
        r"\dt",
        r"\dt *.*",
        r"\l",
        r"\dn",
        r"\df",
        r"\df+ bump",
        r"\du",
        r"\dv",
        r"\di",
        r"\ds",
        r"\dT",
        r"\dD",
        r"\dp",
        r"\dx",
        r"\db",
        r"\dc",
        r"\dC",
        r"\dO",
        r"\do",
        r"\ddp",
        r"\dF",
        r"\dL",
        r"\dy",
        r"\sf bump",
        r"\conninfo",
        r"\encoding",
        r"\copy t to '/dev/null'",
        r"\timing",
        "select * from t \\gdesc",
        "table t",
        "show all",
        "explain analyze select * from t",
    ] {
        let mut psql = ground.world.gateway.psql("carol", TARGET);
        psql.args(["-v", "ON_ERROR_STOP=1", "-c", text]);
        if text.contains("\\gdesc") {
            let shell = format!("echo '{text}' | psql -X -v ON_ERROR_STOP=1");
            psql = program(&ground, "carol", "sh");
            psql.args(["-c", &shell]);
        }
        output(&mut psql);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pg_dump_dumps_schema_and_data() {
    let ground = Ground::start().await;
    let mut dump = program(&ground, "alice", "pg_dump");
    // The gateway names the target where pg_dump names the database.
    dump.args(["--no-password", "--dbname", TARGET]);
    let dump = output(&mut dump);
    for part in [
        "CREATE TABLE public.t",
        "CREATE FUNCTION public.bump",
        "COPY public.secret",
        "10\trow 10",
    ] {
        assert!(dump.contains(part), "{part} is missing in {dump}");
    }
    assert!(ground.world.pending().unwrap().is_empty(), "something was held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_runs_in_each_of_its_modes() {
    let ground = Ground::start().await;
    let mut init = program(&ground, "dave", "pgbench");
    output(init.args(["--initialize", "--quiet", "--scale", "1", TARGET]));
    for mode in ["simple", "extended", "prepared"] {
        let mut bench = program(&ground, "dave", "pgbench");
        let bench = output(bench.args(["-M", mode, "-c", "2", "-j", "2", "-t", "20", TARGET]));
        assert!(
            bench.contains("transactions actually processed: 40/40"),
            "{mode}: {bench}"
        );
        let mut read = program(&ground, "carol", "pgbench");
        let read = output(read.args(["-S", "-n", "-M", mode, "-c", "2", "-t", "20", TARGET]));
        assert!(read.contains("40/40"), "{mode}: {read}");
    }
    assert_eq!(
        ground
            .world
            .count("select count(*) from pgbench_history")
            .await
            .unwrap(),
        40
    );
}
