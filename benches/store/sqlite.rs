//! What SQLite does by itself.

use super::*;

/// Rows that SQLite takes, into the same tables with the same settings.
pub fn rate(synchronous: Option<&str>, span: Duration) -> Rate {
    let directory = TempDir::new().expect("a directory");
    let model = directory.path().join("model.db");
    drop(Store::open(&model));
    let connection = match synchronous {
        Some(synchronous) => {
            let connection = Connection::open(&model).expect("a file");
            let settings = format!(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -512; PRAGMA mmap_size = 0;
                 PRAGMA synchronous = {synchronous}; PRAGMA journal_mode = WAL;
                 PRAGMA wal_autocheckpoint = 1000; PRAGMA temp_store = MEMORY;"
            );
            connection.execute_batch(&settings).expect("settings");
            connection
        }
        None => {
            let connection = Connection::open_in_memory().expect("memory");
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").expect("a setting");
            let file = Connection::open(&model).expect("a file");
            let mut objects =
                file.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").expect("sql");
            let objects = objects.query_map([], |row| row.get::<_, String>(0)).expect("a schema");
            objects.for_each(|sql| connection.execute_batch(&sql.expect("sql")).expect("a table"));
            connection
        }
    };
    // Every column there is, whatever the version.
    let mut columns = connection.prepare("SELECT name FROM pragma_table_info('value')").expect("a table");
    let columns: Vec<String> =
        columns.query_map([], |row| row.get(0)).expect("columns").map(|name| name.expect("a name")).collect();
    let columns: Vec<String> = columns.into_iter().filter(|name| name != "number").collect();
    let places = vec!["?"; columns.len()].join(", ");
    let sql = format!("INSERT INTO value ({}) VALUES ({places})", columns.join(", "));
    let mut statement = connection.prepare(&sql).expect("a statement");
    let mut rng = seeded(seed_from_number(1));
    let (mut key, mut digest, mut value) = ([0; 20], [0; 20], [7; SIZE]);
    let (mut rows, begun, busy) = (0, Instant::now(), processor::of_thread());
    while begun.elapsed() < span {
        connection.execute_batch("BEGIN IMMEDIATE").expect("to begin");
        for _ in 0..BATCH {
            rng.fill_bytes(&mut key);
            rng.fill_bytes(&mut digest);
            value[..20].copy_from_slice(&digest);
            let (distance, time) = (rng.random_range(0..i64::MAX), START + rows);
            for (place, column) in columns.iter().enumerate() {
                let place = place + 1;
                let bound = match column.as_str() {
                    "node" => statement.raw_bind_parameter(place, 1),
                    "key" => statement.raw_bind_parameter(place, &key[..]),
                    "digest" => statement.raw_bind_parameter(place, &digest[..]),
                    "value" => statement.raw_bind_parameter(place, &value[..]),
                    "sender" => statement.raw_bind_parameter(place, "127.0.0.1"),
                    "distance" => statement.raw_bind_parameter(place, distance),
                    _ => statement.raw_bind_parameter(place, time),
                };
                bound.expect("a parameter");
            }
            statement.raw_execute().expect("a row");
            rows += 1;
        }
        connection.execute_batch("COMMIT").expect("to commit");
    }
    let busy = processor::of_thread() - busy;
    Rate { count: rows as u64, took: begun.elapsed().as_secs_f64(), busy }
}
