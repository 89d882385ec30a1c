//! `admin`: administrators register agents and keys, set rules, timeout policies and channels, freeze, block operators, see
//! what is stuck and put it right, and export chains; owners see to tenants. Internal: not on the public API.

mod agents;
mod asked;
mod chain;
mod channels;
mod dead_letters;
mod disposition;
mod freezes;
mod keys;
mod log;
mod offboarding;
mod operators;
mod policies;
mod push;
mod rules;
mod sla;
mod stale;
mod suggesting;
mod tenants;
mod trying;

use relaytrace_domain::Cause;
use relaytrace_service::DatabaseAuthority;
use relaytrace_service::http::Routes;

/// The routes of this function.
pub fn router() -> Routes {
    relaytrace_service::routes!(
        agents::list,
        agents::register,
        agents::show,
        agents::change,
        push::make_secret,
        keys::register_key,
        keys::revoke_key,
        chain::export,
        policies::list,
        policies::set,
        policies::delete,
        disposition::dispose,
        dead_letters::list,
        dead_letters::retry,
        dead_letters::discard,
        channels::list,
        channels::show,
        channels::set,
        channels::remove,
        channels::test,
        sla::report,
        stale::list,
        freezes::list,
        freezes::show,
        freezes::set,
        freezes::end,
        log::list,
        operators::change,
        offboarding::offboard_agent,
        offboarding::offboard_tenant,
        tenants::list,
        tenants::register,
        tenants::change,
        rules::show,
        rules::set,
        rules::show_version,
        trying::try_rules,
        suggesting::suggest
    )
    .needing(DatabaseAuthority::Ops, |needs| needs.responses().bearer().channels().mail().causes(&[Cause::Admin]))
}
