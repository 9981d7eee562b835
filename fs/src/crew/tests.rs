//! The crew with tasks that wait for the test's word.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

fn who(uid: u32) -> Requester {
    Requester {
        uid,
        group: Group::Unknown,
    }
}

/// A crew, and what its tasks tell.
struct Scene {
    crew: Arc<Crew>,
    told: Receiver<&'static str>,
    tell: Sender<&'static str>,
    tickets: u64,
}

impl Scene {
    fn new(readers: usize) -> Self {
        let (tell, told) = channel();
        Self {
            crew: Arc::new(Crew::new(readers, 2)),
            told,
            tell,
            tickets: 0,
        }
    }

    /// A reader submits a task that tells its name; it runs or waits when this returns.
    fn submit(&mut self, who: Requester, name: &'static str) {
        self.tickets += 1;
        let tell = self.tell.clone();
        let task = Box::new(move || {
            tell.send(name).unwrap();
            Step::Last
        });
        self.crew.submit(who, Ticket(self.tickets), task);
    }

    /// The same of a task with several steps, each of which tells a name.
    fn submit_steps(&mut self, who: Requester, names: &'static [&'static str]) {
        self.tickets += 1;
        let tell = self.tell.clone();
        let mut left = names.iter();
        let task = Box::new(move || {
            tell.send(left.next().unwrap()).unwrap();
            if left.len() > 0 {
                Step::More
            } else {
                Step::Last
            }
        });
        self.crew.submit(who, Ticket(self.tickets), task);
    }

    /// A reader submits a task that tells its name and goes on when the answer is dropped.
    fn block(&mut self, who: Requester, name: &'static str) -> (Ticket, Sender<()>) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let (go, wait) = channel::<()>();
        let tell = self.tell.clone();
        let crew = Arc::clone(&self.crew);
        let task = Box::new(move || {
            tell.send(name).unwrap();
            wait.recv().unwrap_err();
            Step::Last
        });
        thread::spawn(move || crew.submit(who, ticket, task));
        assert_eq!(self.told.recv().unwrap(), name);
        (ticket, go)
    }

    /// The next names that tasks tell.
    fn hear(&self, count: usize) -> Vec<&'static str> {
        (0..count).map(|_| self.told.recv().unwrap()).collect()
    }

    fn waiting(&self) -> usize {
        let state = self.crew.lock();
        state.queues.values().map(VecDeque::len).sum()
    }
}

#[test]
fn a_reader_does_what_it_reads_while_others_can_read_on() {
    let mut scene = Scene::new(3);
    scene.submit(who(1), "done at once");
    assert_eq!(scene.told.try_recv().unwrap(), "done at once");
    assert_eq!(scene.crew.lock().readers_at_work, 0);
}

#[test]
fn a_requester_never_has_all_slots_and_another_finds_one_free() {
    let mut scene = Scene::new(4);
    let greedy = [
        scene.block(who(1), "greedy 1"),
        scene.block(who(1), "greedy 2"),
    ];
    scene.submit(who(1), "greedy 3");
    scene.submit(who(1), "greedy 4");
    assert_eq!(scene.waiting(), 2);
    scene.submit(who(2), "modest");
    assert_eq!(scene.hear(1), ["modest"]);
    drop(greedy);
    assert_eq!(scene.hear(2), ["greedy 3", "greedy 4"]);
}

#[test]
fn requesters_who_wait_take_turns_however_much_one_asks_for() {
    let mut scene = Scene::new(3);
    let (_, _stays) = scene.block(who(8), "stays");
    let (_, go) = scene.block(who(9), "first");
    for name in ["a1", "a2", "a3"] {
        scene.submit(who(1), name);
    }
    scene.submit(who(2), "b1");
    scene.submit(who(3), "c1");
    scene.submit(who(2), "b2");
    drop(go);
    assert_eq!(scene.hear(6), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    scene.crew.lock().queues.values().for_each(|queue| {
        assert!(queue.is_empty());
    });
}

#[test]
fn a_long_task_gives_way_to_others_after_each_step() {
    let mut scene = Scene::new(3);
    let (_, _stays) = scene.block(who(8), "stays");
    let (_, go) = scene.block(who(9), "first");
    scene.submit_steps(who(1), &["long 1", "long 2", "long 3"]);
    scene.submit(who(1), "after it");
    scene.submit(who(2), "b1");
    scene.submit(who(2), "b2");
    drop(go);
    let heard = scene.hear(6);
    assert_eq!(
        heard,
        ["long 1", "b1", "long 2", "b2", "long 3", "after it"]
    );
}

#[test]
fn jobs_that_hang_are_given_up_and_the_others_go_on() {
    let mut scene = Scene::new(3);
    let mut stuck = Vec::new();
    let (ticket, go) = scene.block(who(1), "stuck in a reader");
    stuck.push(go);
    let (other, go) = scene.block(who(2), "stuck in another reader");
    stuck.push(go);
    scene.submit(who(1), "after it");
    assert_eq!(scene.waiting(), 1);
    scene.crew.give_up(ticket);
    assert_eq!(scene.hear(1), ["after it"]);
    scene.crew.give_up(other);
    // No reader may be used any more: the last one has to read on. Spare threads do the work.
    for name in ["stuck in a spare", "stuck in another spare"] {
        let (ticket, go) = scene.block(who(1), name);
        stuck.push(go);
        scene.crew.give_up(ticket);
    }
    scene.submit(who(1), "goes on");
    assert_eq!(scene.hear(1), ["goes on"]);
    drop(stuck);
    let at_work = |state: &State| state.spares + state.readers_at_work;
    while at_work(&scene.crew.lock()) > 0 {
        thread::yield_now();
    }
    let state = scene.crew.lock();
    assert!(state.seats.is_empty() && state.held.is_empty());
}

#[test]
fn a_panicking_task_frees_its_slot() {
    let mut scene = Scene::new(3);
    scene.tickets += 1;
    let task = Box::new(|| panic!("a bug"));
    scene.crew.submit(who(1), Ticket(scene.tickets), task);
    scene.submit(who(1), "next");
    assert_eq!(scene.hear(1), ["next"]);
}

#[test]
fn working_ahead_waits_for_an_idle_core_and_ends_with_the_crew() {
    let mut scene = Scene::new(4);
    let crew = Arc::clone(&scene.crew);
    let first = crew.idle().unwrap();
    let (_, go) = scene.block(who(1), "busy");
    let crew = Arc::clone(&crew);
    let tell = scene.tell.clone();
    let ahead = thread::spawn(move || {
        let idle = crew.idle();
        tell.send("idle").unwrap();
        drop(idle);
        while crew.idle().is_some() {
            thread::yield_now();
        }
    });
    assert!(scene.told.try_recv().is_err(), "both cores are in use");
    drop(go);
    assert_eq!(scene.hear(1), ["idle"]);
    drop(first);
    scene.crew.end();
    ahead.join().unwrap();
}
