//! How well the kernel's clock is held to the time, from adjtimex(2).

use std::io;

use super::body::Body;

/// adjtimex returns this when the clock is not synchronised.
#[cfg(target_os = "linux")]
const TIME_ERROR: i32 = 5;
/// Bit of the status that says that offsets are in nanoseconds instead of microseconds.
#[cfg(target_os = "linux")]
const STA_NANO: i32 = 0x2000;
/// Frequencies are parts per million with 16 binary digits behind the point.
#[cfg(target_os = "linux")]
const PPM_SCALED: f64 = 65_536.0;

#[cfg(target_os = "linux")]
pub fn timex(body: &mut Body) -> io::Result<()> {
    let mut timex = rtime_clock::adjtime::Timex::new();
    let state = rtime_clock::adjtime::adjtimex(&mut timex)?;
    let t = timex.0;
    let fine = if t.status & STA_NANO != 0 { 1e-9 } else { 1e-6 };
    let micro = 1e-6;
    let gauges = [
        ("offset_seconds", "Offset between this clock and its reference", t.offset as f64 * fine),
        (
            "frequency_adjustment_ratio",
            "By what the clock is made faster or slower",
            1.0 + t.freq as f64 / PPM_SCALED / 1e6,
        ),
        ("maxerror_seconds", "Largest error that the clock may have", t.maxerror as f64 * micro),
        ("estimated_error_seconds", "Error that the clock is thought to have", t.esterror as f64 * micro),
        ("status", "Bits of the clock's status", f64::from(t.status)),
        ("loop_time_constant", "Time constant of the phase-locked loop", t.constant as f64),
        ("tick_seconds", "Seconds between ticks of the clock", t.tick as f64 * micro),
        ("pps_frequency_hertz", "Frequency by the pulse per second", t.ppsfreq as f64 / PPM_SCALED),
        ("pps_jitter_seconds", "Jitter of the pulse per second", t.jitter as f64 * fine),
        ("pps_shift_seconds", "Interval of the pulse per second", f64::from(t.shift)),
        ("pps_stability_hertz", "How much the frequency wandered lately", t.stabil as f64 / PPM_SCALED),
        ("tai_offset_seconds", "Offset to International Atomic Time", f64::from(t.tai)),
        (
            "sync_status",
            "1 if the clock is held by a reliable source, else 0",
            f64::from(u8::from(state != TIME_ERROR)),
        ),
    ];
    for (name, help, value) in gauges {
        body.gauge(&format!("node_timex_{name}"), help).sample(&[], value);
    }
    let counters = [
        ("pps_jitter_total", "Pulses with too much jitter", t.jitcnt),
        ("pps_calibration_total", "Calibrations by the pulse per second", t.calcnt),
        ("pps_error_total", "Calibrations that failed", t.errcnt),
        ("pps_stability_exceeded_total", "Calibrations with too much wander", t.stbcnt),
    ];
    for (name, help, value) in counters {
        body.counter(&format!("node_timex_{name}"), help).sample(&[], value as f64);
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub fn timex(_body: &mut Body) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "adjtimex is there on Linux only"))
}
