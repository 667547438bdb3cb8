//! The one place that touches the terminal and the clock: takes the terminal over and gives it back, reads keys, counts the
//! time, and carries out what [`super::update`] asks for.
//!
//! The terminal is given back however this ends: at the end, after an error, after a panic, on SIGTERM, SIGHUP and SIGINT,
//! and while the program is suspended.

use super::draw::draw;
use super::feed;
use super::state::State;
use super::update::{Effect, Input, update};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crossterm::cursor::Show;
use crossterm::event::{Event, EventStream, KeyEventKind};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use std::io::{self, Stdout, stdout};
use std::sync::Once;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::StreamExt;

/// A look that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two drawings, so that a flood of records is no flood of drawings.
const FRAME: Duration = Duration::from_millis(40);

/// The shell has stopped us within this, if it can.
const STOPPED: Duration = Duration::from_millis(200);

/// The terminal while it is ours.
struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    fn take() -> io::Result<Screen> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let then = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                then(panic);
            }));
        });
        enable_raw_mode()?;
        let screen = execute!(stdout(), EnterAlternateScreen).and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        screen.map(Screen).inspect_err(|_| give_back())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Where even this fails, nothing more can be done about it.
fn give_back() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

fn lost(error: io::Error) -> Failure {
    Failure::wrong(format!("the terminal cannot be used: {error}"))
        .with_hint("`embot status` and `embot events --follow` need none")
}

/// Shows the plane until the reader has seen enough.
pub async fn run(client: Client, mut state: State, every: Duration) -> Result<(), Failure> {
    let started = Instant::now();
    let (sender, mut inputs) = unbounded_channel();
    let mut stop = Stop::new().map_err(lost)?;
    let mut screen = Screen::take().map_err(lost)?;
    let size = screen.0.size().map_err(lost)?;
    let tasks = [
        tokio::spawn(keys(sender.clone())),
        tokio::spawn(time(started, every, sender.clone())),
        tokio::spawn(decisions(client.clone(), every, sender.clone())),
    ];
    let mut waiting = vec![Input::Resize(size.width, size.height)];
    let result = 'shown: loop {
        for input in merged(&mut waiting) {
            for effect in update(&mut state, input) {
                match effect {
                    Effect::Quit => break 'shown Ok(()),
                    Effect::Suspend => {
                        drop(screen);
                        if let Err(error) = stop.until_continued().await {
                            return Err(lost(error));
                        }
                        screen = Screen::take().map_err(lost)?;
                        if let Ok(size) = screen.0.size() {
                            sender.send(Input::Resize(size.width, size.height)).ok();
                        }
                    }
                    Effect::Fetch(want) => {
                        let (client, sender) = (client.clone(), sender.clone());
                        tokio::spawn(async move {
                            let input = match tokio::time::timeout(PATIENCE, feed::fetch(&client, want)).await {
                                Ok(Ok(picture)) => Input::Picture(Box::new(picture)),
                                Ok(Err(failure)) => Input::NoPicture(feed::said(&failure)),
                                Err(_) => Input::NoPicture(format!("nothing was heard within {} s", PATIENCE.as_secs())),
                            };
                            sender.send(input).ok();
                        });
                    }
                    Effect::Command(command) => {
                        let (client, sender) = (client.clone(), sender.clone());
                        tokio::spawn(async move {
                            let answer = feed::command(&client, command).await;
                            let answer = answer.map(|reply| reply.message).map_err(|failure| feed::said(&failure));
                            sender.send(Input::Said(answer)).ok();
                        });
                    }
                }
            }
        }
        if let Err(error) = screen.0.draw(|frame| draw(frame.buffer_mut(), &state)) {
            break Err(lost(error));
        }
        tokio::time::sleep(FRAME).await;
        tokio::select! {
            count = inputs.recv_many(&mut waiting, 1_024) => if count == 0 { break Ok(()) },
            () = stop.asked() => break Ok(()),
        }
    };
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    drop(screen);
    result
}

/// The inputs in order, with records that came one after the other as one: a flood of them costs no more than a few.
fn merged(waiting: &mut Vec<Input>) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    for input in waiting.drain(..) {
        match (inputs.last_mut(), input) {
            (Some(Input::Records(before)), Input::Records(more)) => before.extend(more),
            (_, input) => inputs.push(input),
        }
    }
    inputs
}

/// Reads keys until the terminal is gone.
async fn keys(sender: UnboundedSender<Input>) {
    let mut events = EventStream::new();
    while let Some(Ok(event)) = events.next().await {
        let input = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => Input::Key(key),
            Event::Resize(width, height) => Input::Resize(width, height),
            _ => continue,
        };
        if sender.send(input).is_err() {
            return;
        }
    }
    sender.send(Input::End).ok();
}

async fn time(started: Instant, every: Duration, sender: UnboundedSender<Input>) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        if sender.send(Input::Tick(started.elapsed())).is_err() {
            return;
        }
    }
}

/// Follows decisions, again and again: why there are none at times, the looks tell.
async fn decisions(client: Client, every: Duration, sender: UnboundedSender<Input>) {
    let mut since = None;
    loop {
        let hear = |records| drop(sender.send(Input::Records(records)));
        feed::follow(&client, &mut since, hear).await.ok();
        tokio::time::sleep(every).await;
    }
}

/// Signals that end or stop us.
struct Stop {
    ends: [Signal; 3],
    continued: Signal,
}

impl Stop {
    fn new() -> io::Result<Stop> {
        let ends = [signal(SignalKind::terminate())?, signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?];
        // 18 on some systems, 19 or 25 on others.
        let continued = signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGCONT as i32))?;
        Ok(Stop { ends, continued })
    }

    /// Returns once we are to end.
    async fn asked(&mut self) {
        let [terminate, hangup, interrupt] = &mut self.ends;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// Stops us and whoever is in the pipe with us, as Ctrl-Z does, until the shell continues us. Where nobody could ever do
    /// that, because we are a terminal's only program, the system does not stop us, and we go on after a moment.
    async fn until_continued(&mut self) -> io::Result<()> {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(0), nix::sys::signal::Signal::SIGTSTP)?;
        tokio::select! {
            _ = self.continued.recv() => {}
            () = tokio::time::sleep(STOPPED) => {}
        }
        Ok(())
    }
}
