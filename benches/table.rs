//! Rows of the table, and what is computed for them.

use std::fmt;
use std::time::Duration;

#[derive(Default)]
pub struct Table(Vec<[String; 3]>);

impl Table {
    /// `aim`: empty where the figure is there to compare with.
    pub fn row(&mut self, what: impl Into<String>, measured: impl Into<String>, aim: &str) {
        self.0.push([what.into(), measured.into(), aim.to_owned()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | measured | aim |\n|---|---|---|")?;
        for [what, measured, aim] in &self.0 {
            writeln!(f, "| {what} | {measured} | {aim} |")?;
        }
        Ok(())
    }
}

/// Times of the same thing, in order of length.
pub struct Times(Vec<Duration>);

impl Times {
    pub fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "something was measured");
        times.sort();
        Self(times)
    }

    /// The time that `percent` of all do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }

    pub fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub fn most(&self) -> Duration {
        self.percentile(100)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

pub fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.3} ms") } else { format!("{ms:.1} ms") }
}
