//! Reads 7 and prints OK when a thread, a map and the input are as they should be.

use std::{collections::HashMap, io, process, thread};

fn main() {
    let mut line = String::new();
    io::stdin().read_line(&mut line).expect("input");
    let sum = thread::spawn(|| (1..=3).sum::<i32>()).join().expect("a thread");
    let numbers: HashMap<_, _> = [("sum", sum), ("input", line.trim().parse().expect("a number"))].into();
    if numbers["sum"] != 6 || numbers["input"] != 7 {
        process::exit(1);
    }
    println!("OK");
}
