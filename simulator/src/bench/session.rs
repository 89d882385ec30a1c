//! One bench from the first agent to the last figure.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::cpu::usage;
use super::database::{Programs, Ran};
use super::floor::Side;
use super::kind::Kind;
use super::latency::{self, Latency};
use super::load::{self, Load, Measured};
use super::report::{Report, Row, Sample};
use super::rows::{ASKERS, Batch, Group, IDLERS, POLLERS, STEP, WAITERS};
use super::scripts::Scripts;
use super::stack::Stack;
use super::{Options, Part};
use crate::agent::Agent;
use crate::database::Database;
use crate::http::Connection;
