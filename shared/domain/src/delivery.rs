//! How decisions reach their agents.

/// How decisions are delivered (contract, "Poll and acknowledge").
#[derive(Clone, Debug)]
pub struct DeliveryRules {
    /// Length of a lease, in seconds.
    pub lease_seconds: f64,
    /// The attempt after which a retry dead-letters.
    pub max_attempts: i32,
    /// Age at which a delivery dead-letters, in seconds.
    pub max_age_seconds: f64,
    /// Longest wait of a call, in seconds.
    pub max_wait_seconds: u64,
    /// Calls of one agent that wait at a time, in this process.
    pub max_parked_per_agent: usize,
}

impl Default for DeliveryRules {
    fn default() -> Self {
        Self {
            lease_seconds: 30.0,
            max_attempts: 20,
            max_age_seconds: 86_400.0,
            max_wait_seconds: 55,
            max_parked_per_agent: 256,
        }
    }
}
