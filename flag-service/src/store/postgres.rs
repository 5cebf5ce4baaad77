//! What only PostgreSQL does: locks across machines, and telling others of a change.

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::Notify;

/// For what must see one moment.
pub(super) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// For a transaction that will write, whatever the server's default: who waited for the row of the
/// revision sees what was written meanwhile.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// What each connection is told: an acknowledged commit survives a crash, also where the server's
/// default is otherwise; and who stalls in the midst of a change, or waits for who does, gives up,
/// so that one machine that hangs does not keep all others from writing.
pub(super) const SESSION: &str = "
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
    SELECT set_config('idle_in_transaction_session_timeout', '5s', false), set_config('lock_timeout', '8s', false),
           set_config('client_min_messages', 'warning', false)";

/// Held while the schema is brought up to date, until its transaction ends: `rampart` in ASCII.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(32195270009778804)";

/// Part of the transaction of a change: PostgreSQL tells it when, and only if, that commits.
pub(super) const TELL: &str = "NOTIFY rampart";

/// How long to wait before listening again.
const AGAIN: Duration = Duration::from_secs(1);

/// Passes on what others tell, for as long as it is polled. Connections that are lost are made again;
/// whatever was told meanwhile is lost.
pub(super) async fn listen(url: &str, told: &Notify) {
    loop {
        // Whoever polls the database finds out what keeps this from working, and says so.
        if let Ok(mut listener) = PgListener::connect(url).await
            && listener.listen("rampart").await.is_ok()
        {
            told.notify_one();
            while listener.recv().await.is_ok() {
                told.notify_one();
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
