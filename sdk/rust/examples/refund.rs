//! One refund, from the question to its end on record, as the agent of a running `make run`:
//!
//! ```sh
//! cargo run -p relaytrace-client --example refund
//! ```

use anyhow::Context as _;
use relaytrace_client::{Action, Client, Credentials, Envelope, Priority};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Of your own deployment: `Client::from_env()`.
    let path = std::env::var("RELAYTRACE_DEV_JSON").unwrap_or_else(|_| ".local/dev.json".into());
    let stack = std::fs::read_to_string(&path).with_context(|| format!("no {path}: is `make run` running?"))?;
    let stack: serde_json::Value = serde_json::from_str(&stack)?;
    let text = |member: &str| stack["agent"][member].as_str().unwrap_or_default();
    let credentials =
        Credentials::new(text("agent_id"), text("key_id"), text("private_key_pem"), text("response_secret"))?;
    let client = Client::new(stack["base_url"].as_str().unwrap_or_default(), credentials)?;

    // Ask. A key of your own (`Envelope::new`) finds the same question again after a crash.
    let action = Action::new("refund.create", json!({"customer": "88213", "amount": "1240.00", "currency": "EUR"}));
    let question = Envelope {
        summary: Some("The parcel was returned **unopened**.".into()),
        resume: Some(json!({"ticket": 7})),
        ..client.question(Priority::P2, "Refund 1,240 EUR to customer 88213", action)?
    };

    // Wait, and use the approval up. What arrives here is signed for this very call; all else is an error.
    let permit = client.ask(&question, None).await?;
    println!("{:?} by {}", permit.decision.outcome, permit.decision.decided_by.id);

    // Keep the receipt: it proves later what was decided, to anyone.
    let receipt = client.receipt_keys().await?.verify(&permit.decision)?;
    println!("a receipt of {} over {} chain entries", receipt.iss, receipt.chain_length);

    // Act, on what was approved; the end of this block is the outcome on record.
    let refund = async |action: &Action| {
        println!("refunding {}", action.arguments["amount"]);
        Ok::<_, anyhow::Error>(())
    };
    permit.run(refund).await
}
