//! Whether what modules run in is healthy, as Envoys find it: by the endpoints that they would send requests
//! to, and by what has become of requests.

use serde::Serialize;
use utoipa::ToSchema;

use super::envoy::Endpoints;
use super::traffic::Outcomes;

/// How a cluster fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Every endpoint takes requests
    Healthy,
    /// Some do not, or did not a moment ago
    Degraded,
    /// None does
    Unhealthy,
    /// No Envoy has told
    Unknown,
}

/// How a cluster fares, and by what that is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// In one word
    pub status: HealthStatus,
    /// Endpoints to which requests are sent, of all Envoys together
    pub healthy_endpoints: u64,
    /// Endpoints, of all Envoys together
    pub endpoints: u64,
    /// Connections that were not accepted in the last minute
    pub unconnected: u64,
    /// When an Envoy last told, in milliseconds since the Unix epoch
    pub last_check_ms: Option<u64>,
}

/// Judges by what each Envoy that is heard has told of the cluster.
pub(super) fn judge(
    told: &[Endpoints],
    outcomes: Option<&Outcomes>,
    second: u64,
    last_check_ms: Option<u64>,
) -> Health {
    let sum = |count: fn(&Endpoints) -> u64| told.iter().map(count).fold(0, u64::saturating_add);
    let unconnected = |seconds| outcomes.map_or(0, |outcomes| outcomes.unconnected.last(second, seconds));
    let answered = outcomes.map_or(0, |outcomes| outcomes.answered.last(second, 10));
    let status = if told.is_empty() {
        HealthStatus::Unknown
    } else if told.iter().all(|endpoints| endpoints.healthy == 0) || (unconnected(10) > 0 && answered == 0) {
        HealthStatus::Unhealthy
    } else if told.iter().any(|endpoints| endpoints.healthy < endpoints.total) || unconnected(60) > 0 {
        HealthStatus::Degraded
    } else {
        HealthStatus::Healthy
    };
    Health {
        status,
        healthy_endpoints: sum(|endpoints| endpoints.healthy),
        endpoints: sum(|endpoints| endpoints.total),
        unconnected: unconnected(60),
        last_check_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoints, HealthStatus, Outcomes, judge};

    fn status(told: &[(u64, u64)], outcomes: &Outcomes, second: u64) -> HealthStatus {
        let told: Vec<Endpoints> =
            told.iter().map(|(healthy, total)| Endpoints { healthy: *healthy, total: *total }).collect();
        judge(&told, Some(outcomes), second, None).status
    }

    #[test]
    fn endpoints_tell_and_so_does_what_became_of_requests() {
        use HealthStatus::{Degraded, Healthy, Unhealthy, Unknown};
        let none = Outcomes::default();
        assert_eq!(status(&[], &none, 0), Unknown);
        assert_eq!(status(&[(2, 2), (2, 2)], &none, 0), Healthy);
        assert_eq!(status(&[(2, 2), (1, 2)], &none, 0), Degraded);
        // One Envoy that reaches it is enough for somebody to be served.
        assert_eq!(status(&[(2, 2), (0, 2)], &none, 0), Degraded);
        assert_eq!(status(&[(0, 2), (0, 2)], &none, 0), Unhealthy);
        assert_eq!(status(&[(0, 0)], &none, 0), Unhealthy);

        let mut some = Outcomes::default();
        some.unconnected.add(100, 3);
        assert_eq!(status(&[(2, 2)], &some, 105), Unhealthy);
        some.answered.add(105, 1);
        assert_eq!(status(&[(2, 2)], &some, 105), Degraded);
        assert_eq!((status(&[(2, 2)], &some, 159), status(&[(2, 2)], &some, 160)), (Degraded, Healthy));
    }
}
