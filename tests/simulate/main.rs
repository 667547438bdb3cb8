//! The plane in virtual time: the daemon's own manager, embots, planner, journal and store over a simulated fleet.

mod advice;
mod crash;
mod fidelity;
mod kit;
mod manage;
mod modules;
mod notices;
mod restart;
mod restored;
mod same;
mod scenarios;
mod walk;
