//! What a run says: tables for a reader, JSON records, plots; and where they are kept.
//!
//! Owns the criteria's arithmetic: ratios round by round, the best floor of a shape, the sweep's best window.

use crate::plot::{Group, bars, grid};
use crate::runner::{Sample, Setting, Shape, series};
use crate::spread::Spread;
use crate::subjects::Subject;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// A window counts as a choice where its p99 is at most this much of that without a window.
const P99_RATIO_MAX: f64 = 1.15;
/// And the adaptive window may cost at most this much of the best choice's CPU.
const ADAPTIVE_CPU_RATIO_MAX: f64 = 1.10;

/// A comparison's whole outcome.
#[derive(Debug)]
pub(crate) struct Report {
    /// The record's name without its ending.
    pub(crate) name: String,
    pub(crate) markdown: String,
    pub(crate) json: Value,
    pub(crate) svg: String,
}

impl Report {
    /// Keeps the record, the table and the plot in `directory`.
    pub(crate) fn keep(&self, directory: &Path) -> Result<PathBuf, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        fs::create_dir_all(directory).map_err(failed)?;
        let path = |ending: &str| directory.join(format!("{}.{ending}", self.name));
        let json = serde_json::to_string_pretty(&self.json).map_err(|error| error.to_string())?;
        fs::write(path("json"), json + "\n").map_err(failed)?;
        fs::write(path("md"), &self.markdown).map_err(failed)?;
        fs::write(path("svg"), &self.svg).map_err(failed)?;
        Ok(path("md"))
    }
}

/// The machine and the setting, which no number means anything without.
pub(crate) fn circumstances(setting: &Setting) -> Value {
    let first_line = |path: &str, prefix: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(prefix)).unwrap_or_default();
        line.rsplit(':').next().unwrap_or_default().trim().to_owned()
    };
    json!({
        "kernel": first_line("/proc/sys/kernel/osrelease", ""),
        "cpu": first_line("/proc/cpuinfo", "model name"),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "load": setting.loader.name(),
        "rounds": setting.rounds,
        "seconds": setting.seconds,
        "value_bytes": setting.value_bytes,
        "set_to_get": setting.ratio,
        "proxy_core": setting.proxy_core,
        "load_core": setting.load_core,
    })
}

/// A record's name: what it is, and when, in UTC.
pub(crate) fn record_name(what: &str) -> String {
    let seconds = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    format!("{what}-{}", utc(seconds))
}

/// `YYYYMMDD-HHMMSS`, by the calendar's arithmetic of eras of 400 years that begin in March.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
}

fn per_cpu(samples: &[Sample], subject: &str, shape: Shape) -> Vec<f64> {
    series(samples, subject, shape, |sample| sample.requests_per_cpu_second)
}

fn median(samples: &[Sample], subject: &str, shape: Shape, number: impl Fn(&Sample) -> f64) -> f64 {
    Spread::of(series(samples, subject, shape, number)).median
}

/// What must not go unnoticed in any sample.
fn warnings(samples: &[Sample]) -> String {
    let mut text = String::new();
    for sample in samples {
        let of = format!("{} at {}, round {}", sample.subject, sample.shape.label(), sample.round + 1);
        if sample.loaded.errors > 0 {
            let _ = writeln!(text, "* {of}: {} errors", sample.loaded.errors);
        }
        if !sample.cpu_clocks_agree {
            let _ = writeln!(text, "* {of}: the kernel's two CPU clocks disagree; ticks were taken");
        }
    }
    if text.is_empty() { text } else { format!("\nTo be looked into:\n\n{text}") }
}

/// The subjects beside each other, shape by shape.
pub(crate) fn comparison(setting: &Setting, subjects: &[Subject], shapes: &[Shape], samples: &[Sample]) -> Report {
    let mut markdown = format!("# Comparison\n\n`{}`\n", circumstances(setting));
    let mut criteria = Vec::new();
    for shape in shapes {
        let floors = subjects.iter().filter(|subject| subject.is_floor());
        let of = |subject: &Subject| Spread::of(per_cpu(samples, &subject.name, *shape)).median;
        let best_floor = floors.max_by(|one, two| of(one).total_cmp(&of(two)));
        comparison_table(&mut markdown, subjects, *shape, best_floor, samples);
        for subject in subjects.iter().filter(|subject| subject.is_keyway()) {
            criteria.push(shape_criteria(subject, best_floor, *shape, samples));
        }
    }
    markdown += &warnings(samples);
    let names: Vec<String> = subjects.iter().map(|subject| subject.name.clone()).collect();
    let groups: Vec<Group> = shapes
        .iter()
        .map(|shape| Group {
            label: shape.label(),
            bars: names.iter().map(|name| Spread::of(per_cpu(samples, name, *shape))).collect(),
        })
        .collect();
    Report {
        name: record_name("compare"),
        svg: bars("Requests per CPU-second, by clients x pipeline", "requests per CPU-second", &names, &groups),
        json: json!({"kind": "compare", "circumstances": circumstances(setting), "criteria": criteria, "samples": samples}),
        markdown,
    }
}

const TWEMPROXY: &str = "twemproxy";

fn comparison_table(
    markdown: &mut String,
    subjects: &[Subject],
    shape: Shape,
    best_floor: Option<&Subject>,
    samples: &[Sample],
) {
    let floor = best_floor.map_or("no floor", |subject| &subject.name);
    // Writing to a String can't fail.
    let _ = write!(
        markdown,
        "\n## {} clients, pipeline {}\n\nBest floor: {floor}. Ratios are round by round: median (least..most).\n\n\
         | | requests per CPU-second | vs twemproxy | vs best floor | requests per second | vs twemproxy | p50 us | p99 us \
         | p99 vs twemproxy | user share |\n|---|---|---|---|---|---|---|---|---|---|\n",
        shape.clients, shape.pipeline
    );
    for subject in subjects {
        let own = |number: fn(&Sample) -> f64| series(samples, &subject.name, shape, number);
        let twemproxy =
            |number: fn(&Sample) -> f64| Spread::of_ratios(&own(number), &series(samples, TWEMPROXY, shape, number));
        let cpu = own(|sample| sample.requests_per_cpu_second);
        let _ = writeln!(
            markdown,
            "| {} | {:.0} | {:.2} | {:.2} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} | {:.3} |",
            subject.name,
            Spread::of(cpu.iter().copied()),
            twemproxy(|sample| sample.requests_per_cpu_second),
            Spread::of_ratios(&cpu, &per_cpu(samples, floor, shape)),
            Spread::of(own(|sample| sample.loaded.requests_per_second)),
            twemproxy(|sample| sample.loaded.requests_per_second),
            Spread::of(own(|sample| sample.loaded.p50_us)),
            Spread::of(own(|sample| sample.loaded.p99_us)),
            twemproxy(|sample| sample.loaded.p99_us),
            Spread::of(own(|sample| sample.user_share)),
        );
    }
}

fn shape_criteria(subject: &Subject, best_floor: Option<&Subject>, shape: Shape, samples: &[Sample]) -> Value {
    let ratio = |to: &str, number: fn(&Sample) -> f64| {
        let own = series(samples, &subject.name, shape, number);
        Spread::of_ratios(&own, &series(samples, to, shape, number))
    };
    let floor = best_floor.map_or("", |floor| &floor.name);
    json!({
        "subject": subject.name,
        "shape": shape,
        "best_floor": floor,
        "cpu_vs_best_floor": ratio(floor, |sample| sample.requests_per_cpu_second),
        "cpu_vs_twemproxy": ratio(TWEMPROXY, |sample| sample.requests_per_cpu_second),
        "throughput_vs_twemproxy": ratio(TWEMPROXY, |sample| sample.loaded.requests_per_second),
        "p99_vs_twemproxy": ratio(TWEMPROXY, |sample| sample.loaded.p99_us),
        "user_share": Spread::of(series(samples, &subject.name, shape, |sample| sample.user_share)),
    })
}

/// One cell of the sweep: what each window costs, and how the adaptive one compares with the best choice.
#[derive(Clone, Debug, PartialEq)]
struct Cell {
    /// CPU microseconds per request, by window.
    cpu_us: Vec<f64>,
    /// p99 as a ratio to that without a window.
    p99_ratio: Vec<f64>,
    /// The fixed window (or none) with the least CPU among those whose p99 is fit.
    best: usize,
    /// Adaptive CPU per request over the best's.
    ratio: f64,
}

/// `subjects` are: off, any fixed windows, adaptive.
fn cell(subjects: &[Subject], shape: Shape, samples: &[Sample]) -> Cell {
    let of = |number: fn(&Sample) -> f64| -> Vec<f64> {
        subjects.iter().map(|subject| median(samples, &subject.name, shape, number)).collect()
    };
    let cpu_us = of(|sample| 1e6 / sample.requests_per_cpu_second);
    let p99 = of(|sample| sample.loaded.p99_us);
    let p99_ratio: Vec<f64> = p99.iter().map(|its| its / p99[0]).collect();
    let adaptive = subjects.len() - 1;
    let fit = (0..adaptive).filter(|at| p99_ratio[*at] <= P99_RATIO_MAX);
    let best = fit.min_by(|one, two| cpu_us[*one].total_cmp(&cpu_us[*two])).unwrap_or(0);
    Cell { ratio: cpu_us[adaptive] / cpu_us[best], cpu_us, p99_ratio, best }
}

/// The batching window over all cells of clients and pipelines, against the criterion.
pub(crate) fn sweep(
    setting: &Setting,
    subjects: &[Subject],
    clients: &[usize],
    pipelines: &[usize],
    samples: &[Sample],
) -> Report {
    let mut markdown = format!(
        "# The batching window\n\n`{}`\n\nCPU microseconds per request (p99 as a ratio to off). The best is the cheapest \
         without or with a fixed window whose p99 is at most {P99_RATIO_MAX} of off; adaptive may cost \
         {ADAPTIVE_CPU_RATIO_MAX} of it.\n\n| clients x pipeline |",
        circumstances(setting)
    );
    for subject in subjects {
        let _ = write!(markdown, " {} |", subject.name);
    }
    let _ = writeln!(markdown, " best | adaptive vs best | fits |\n|---|{}---|---|---|", "---|".repeat(subjects.len()));
    let (mut cells, mut ratios) = (Vec::new(), Vec::new());
    for clients in clients {
        let mut row = Vec::new();
        for pipeline in pipelines {
            let shape = Shape { clients: *clients, pipeline: *pipeline };
            let cell = cell(subjects, shape, samples);
            let fits = cell.ratio <= ADAPTIVE_CPU_RATIO_MAX;
            let _ = write!(markdown, "| {} |", shape.label());
            for (cpu_us, p99_ratio) in cell.cpu_us.iter().zip(&cell.p99_ratio) {
                let _ = write!(markdown, " {cpu_us:.2} ({p99_ratio:.2}) |");
            }
            let best = &subjects[cell.best].name;
            let _ = writeln!(markdown, " {best} | {:.2} | {} |", cell.ratio, if fits { "yes" } else { "**no**" });
            cells.push(json!({
                "shape": shape, "cpu_us": cell.cpu_us, "p99_ratio": cell.p99_ratio, "best": best,
                "adaptive_vs_best": cell.ratio, "fits": fits,
            }));
            row.push(cell.ratio);
        }
        ratios.push(row);
    }
    markdown += &warnings(samples);
    let names = |unit: &str, numbers: &[usize]| -> Vec<String> {
        numbers.iter().map(|number| format!("{unit} {number}")).collect()
    };
    let windows: Vec<&String> = subjects.iter().map(|subject| &subject.name).collect();
    Report {
        name: record_name("sweep"),
        svg: grid(
            "Adaptive window: CPU per request vs the best fixed or none",
            &names("clients", clients),
            &names("pipeline", pipelines),
            &ratios,
            1.0 + 2.0 * (ADAPTIVE_CPU_RATIO_MAX - 1.0),
        ),
        json: json!({
            "kind": "sweep", "circumstances": circumstances(setting), "windows": windows, "cells": cells,
            "samples": samples,
        }),
        markdown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::{Loaded, Loader};
    use crate::subjects::Window;

    const SHAPE: Shape = Shape { clients: 50, pipeline: 1 };

    fn sample(subject: &Subject, round: usize, per_cpu: f64, p99_us: f64) -> Sample {
        let loaded = Loaded { answered: 1000, errors: 0, requests_per_second: per_cpu / 2.0, p50_us: 10.0, p99_us };
        Sample {
            subject: subject.name.clone(),
            shape: SHAPE,
            round,
            loaded,
            cpu_seconds: 1.0,
            requests_per_cpu_second: per_cpu,
            user_share: 0.05,
            cpu_clocks_agree: true,
        }
    }

    fn setting() -> Setting {
        Setting {
            memcached: "memcached".into(),
            loader: Loader::Own,
            proxy_core: Some(0),
            load_core: Some(1),
            rounds: 2,
            seconds: 1.0,
            value_bytes: "100".to_owned(),
            ratio: "1:10".to_owned(),
            rate: None,
        }
    }

    #[test]
    fn a_comparison_names_the_best_floor_and_its_ratios() {
        let program = Path::new("p");
        let subjects = [
            Subject::keyway(program, Window::Off),
            Subject::nutcracker(program),
            Subject::floor(program, Window::Off),
            Subject::floor(program, Window::Adaptive { max_delay_us: 200 }),
        ];
        let mut samples = Vec::new();
        for round in 0..2 {
            let faster = 1.0 + round as f64;
            for (subject, per_cpu) in subjects.iter().zip([130.0, 100.0, 120.0, 140.0]) {
                samples.push(sample(subject, round, per_cpu * faster, 50.0));
            }
        }
        let report = comparison(&setting(), &subjects, &[SHAPE], &samples);
        assert!(report.markdown.contains("Best floor: floor adaptive 200 us"), "{}", report.markdown);
        assert!(report.markdown.contains("| keyway off | 195 (130..260) | 1.30 (1.30..1.30) | 0.93 (0.93..0.93) |"));
        assert_eq!(report.json["criteria"][0]["cpu_vs_twemproxy"]["median"], 1.3);
        assert!(!report.markdown.contains("looked into"));
        samples[0].loaded.errors = 3;
        let report = comparison(&setting(), &subjects, &[SHAPE], &samples);
        assert!(report.markdown.contains("* keyway off at 50 x 1, round 1: 3 errors"));
    }

    #[test]
    fn the_sweeps_best_window_must_have_a_fit_p99() {
        let program = Path::new("p");
        let subjects = [
            Subject::keyway(program, Window::Off),
            Subject::keyway(program, Window::Fixed { max_delay_us: 100, batch: 32 }),
            Subject::keyway(program, Window::Fixed { max_delay_us: 200, batch: 64 }),
            Subject::keyway(program, Window::Adaptive { max_delay_us: 100 }),
        ];
        let numbers = [(100.0, 50.0), (200.0, 55.0), (400.0, 60.0), (190.0, 50.0)];
        let samples: Vec<Sample> =
            subjects.iter().zip(numbers).map(|(subject, (cpu, p99))| sample(subject, 0, cpu, p99)).collect();
        let cell = cell(&subjects, SHAPE, &samples);
        assert_eq!(cell.best, 1);
        assert!((cell.ratio - 200.0 / 190.0).abs() < 1e-9);
        let report = sweep(&setting(), &subjects, &[50], &[1], &samples);
        assert!(report.markdown.contains("| keyway 100 us/32 | 1.05 | yes |"), "{}", report.markdown);
    }

    #[test]
    fn records_have_the_date() {
        assert_eq!(utc(0), "19700101-000000");
        assert_eq!(utc(951_782_399), "20000228-235959");
        assert_eq!(utc(951_782_400), "20000229-000000");
        assert_eq!(utc(1_772_323_200), "20260301-000000");
    }
}
