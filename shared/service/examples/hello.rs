//! The smallest Lambda that answers HTTP: what a cold start is compared with (`local/cold-start`).

use lambda_http::{Error, Request, run, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run(service_fn(async |_: Request| Ok::<_, Error>("hello\n"))).await
}
