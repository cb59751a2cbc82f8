//! Malformed bytes are errors, never panics and never a draft that covers nothing.

use countersign_tests::mutate::{Chance, Reader};

const ROUNDS: u64 = 40_000;

fn check(reader: Reader) {
    // As large as the stack of the gateway's own parser threads.
    let run = std::thread::Builder::new().stack_size(512 << 20).spawn(move || {
        let seeds = reader.seeds().unwrap();
        for seed in &seeds {
            reader.read(seed);
        }
        for round in 0..ROUNDS {
            reader.read(&Chance::new(round).mutate(&seeds));
        }
    });
    run.unwrap().join().unwrap();
}

#[test]
fn a_clients_malformed_bytes_are_errors() {
    check(Reader::Client);
}

#[test]
fn a_servers_malformed_bytes_are_errors() {
    check(Reader::Server);
}

#[test]
fn malformed_startup_packets_are_errors() {
    check(Reader::Startup);
}
