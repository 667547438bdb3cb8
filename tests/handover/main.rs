//! A guest goes from one plane to another with its management: two managers in virtual time over one simulated fleet.

mod cases;
mod clock;
mod cold;
mod crash;
mod decided;
mod evacuation;
mod kit;
mod modules;
mod restored;
