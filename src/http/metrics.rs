//! `GET /metrics` in Prometheus' text format: what the parts have counted, and how things are at this moment.

use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;

use super::status::Status;

/// A number of things, as a gauge has it.
fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

pub(super) fn render(metrics: &PrometheusHandle, status: &Status) -> String {
    for account in &status.accounts {
        let joined = account
            .rooms
            .iter()
            .filter(|room| room.condition == "joined")
            .count();
        let online = if account.online { 1.0 } else { 0.0 };
        gauge!("moltis_account_online", "account" => account.id.clone()).set(online);
        gauge!("moltis_account_rooms_joined", "account" => account.id.clone()).set(number(joined));
    }
    gauge!("moltis_conversations_open").set(number(status.conversations.open));
    gauge!("moltis_messages_waiting").set(number(status.conversations.waiting));
    gauge!("moltis_turns_running").set(number(status.conversations.running));
    gauge!("moltis_models_resting").set(number(status.models.resting.len()));
    metrics.render()
}
