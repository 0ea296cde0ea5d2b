//! From a stack to voxels: files are read and decoded in parallel, uncompressed ones straight into their place.

use super::file::Opened;
use super::instance::{Instance, PixelPlace, Place};
use super::pet::Uptake;
use super::pixels::{PixelFormat, Sample, Source, Stored, decode_frame, finish_native};
use super::stack::{Slot, Stack};
use super::study::content;
use super::syntax::Wrapping;
use galen_core::{Error, Result, Scalar, Volume, Voxels, with_voxels};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

/// Samples of a file that are believed whatever its size ...
const SMALL: u64 = 1 << 24;
/// ... or for each of its bytes.
const MAX_EXPANSION: u64 = 512;

/// What to make of stored values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// PET: uptake instead of activity.
    pub uptake: Option<Uptake>,
    /// Turn images whose low values are bright (MONOCHROME1) around.
    pub invert_monochrome1: bool,
    /// Move the slices of a tilted gantry above each other; else such a series is refused.
    pub untilt: bool,
}

/// A file that holds several frames, read once for all of them.
struct Shared {
    bytes: Vec<u8>,
    frames: Vec<(usize, usize)>,
    owned: Vec<Vec<u8>>,
}

/// Reads the voxels of a stack.
pub fn read(instances: &[Instance], stack: &Stack, reading: Reading) -> Result<Volume> {
    let lead = &instances[stack.slots[0].instance];
    let format = &located(lead)?.format;
    if stack.shear.is_some() && !reading.untilt {
        let what = "the gantry is tilted: slices do not lie above each other";
        return Err(Error::input(&lead.place, what, "give --untilt to move them (linear interpolation)"));
    }
    match format.sample {
        Sample::Bit | Sample::Unsigned(1) => typed::<u8>(instances, stack, reading),
        Sample::Signed(1) => typed::<i8>(instances, stack, reading),
        Sample::Unsigned(2) => typed::<u16>(instances, stack, reading),
        Sample::Signed(2) => typed::<i16>(instances, stack, reading),
        Sample::Unsigned(_) => typed::<u32>(instances, stack, reading),
        Sample::Signed(_) => typed::<i32>(instances, stack, reading),
        Sample::Float(4) => typed::<f32>(instances, stack, reading),
        Sample::Float(_) => typed::<f64>(instances, stack, reading),
    }
}

/// The pixels of an image that is known to have some.
pub fn located(instance: &Instance) -> Result<&PixelPlace> {
    match &instance.pixels {
        Some(Ok(found)) => Ok(found),
        Some(Err(error)) => Err(error.clone()),
        None => Err(Error::input(&instance.place, "has no pixels", "give an image")),
    }
}

fn typed<T: Stored>(instances: &[Instance], stack: &Stack, reading: Reading) -> Result<Volume> {
    let lead = &instances[stack.slots[0].instance];
    let format = &located(lead)?.format;
    let length = format.frame_samples();
    let shared = shared(instances, &stack.slots)?;
    for slot in &stack.slots {
        believable(&instances[slot.instance])?;
    }
    let mut stored = vec![T::from_bits(0); length * stack.slots.len()];
    stored.par_chunks_exact_mut(length).zip(&stack.slots).try_for_each(|(out, slot)| {
        frame(&instances[slot.instance], slot.frame, shared.get(&slot.instance), out)
    })?;
    if reading.invert_monochrome1 && format.photometric == "MONOCHROME1" {
        let all = if matches!(format.sample, Sample::Signed(_)) { -1 } else { (1i64 << format.stored) - 1 };
        stored.par_iter_mut().for_each(|value| {
            *value = T::from_bits((all - value.as_f64() as i64).max(if all < 0 { i64::MIN } else { 0 }))
        });
    }
    let planes = stack.geometry.size[0];
    let samples = format.samples;
    let mut volume = if let (Some(palette), 1) = (&lead.palette, samples) {
        let colours: Vec<u8> =
            stored.iter().flat_map(|value| palette.colour(value.as_f64() as i64)).collect();
        channels(stack, colours, planes, 3)
    } else {
        channels(stack, stored, planes, samples)
    };
    scale(&mut volume, instances, stack, reading)?;
    match stack.shear {
        Some(shift) => Ok(super::tilt::straighten(&volume, shift)),
        None => Ok(volume),
    }
}

/// Samples that lie together per pixel become channels: `[moment, z, y, x, sample]` to `[moment, sample, z, y, x]`.
fn channels<T: Scalar>(stack: &Stack, stored: Vec<T>, planes: usize, samples: usize) -> Volume {
    let geometry = stack.geometry.clone();
    let voxels = if samples == 1 {
        T::wrap(stored)
    } else {
        let mut all = Vec::with_capacity(stored.len());
        for volume in stored.chunks_exact(planes * geometry.size[1] * geometry.size[2] * samples) {
            (0..samples).for_each(|sample| all.extend(volume.iter().skip(sample).step_by(samples)));
        }
        T::wrap(all)
    };
    Volume { geometry, channels: stack.moments * samples, voxels, slope: 1.0, intercept: 0.0 }
}

/// Sets slope and intercept, or computes true values where they differ from image to image.
fn scale(volume: &mut Volume, instances: &[Instance], stack: &Stack, reading: Reading) -> Result<()> {
    let mut scales = Vec::with_capacity(stack.slots.len());
    for slot in &stack.slots {
        let instance = &instances[slot.instance];
        let frame = &instance.frames[slot.frame];
        let factor = match (reading.uptake, &instance.pet) {
            (None, _) => 1.0,
            (Some(uptake), Some(pet)) => pet.factor(uptake).map_err(|what| {
                Error::input(&instance.place, what, "leave --suv away to get the values as they are stored")
            })?,
            (Some(_), None) => {
                let what = format!("is {}, not PET: there is no uptake", instance.modality);
                return Err(Error::input(&instance.place, what, "leave --suv away"));
            }
        };
        scales.push((frame.slope * factor, frame.intercept * factor));
    }
    if scales.iter().all(|scale| *scale == scales[0]) {
        (volume.slope, volume.intercept) = scales[0];
        return Ok(());
    }
    let image = volume.geometry.size[1] * volume.geometry.size[2];
    let samples = volume.channels / stack.moments;
    let planes = volume.geometry.size[0];
    let channel = planes * image;
    let slot = |at: usize| at / channel / samples * planes + at % channel / image;
    let all = with_voxels!(&volume.voxels, v => {
        let scaled = v.iter().enumerate().map(|(at, value)| {
            let (slope, intercept) = scales[slot(at)];
            (value.as_f64() * slope + intercept) as f32
        });
        scaled.collect()
    });
    volume.voxels = Voxels::F32(Arc::new(all));
    Ok(())
}

/// Refuses a file that claims more than its bytes can hold, before there is room for it.
fn believable(instance: &Instance) -> Result<()> {
    let format = &located(instance)?.format;
    let bytes = super::study::size(&instance.place)?;
    let samples = (format.frame_samples() as u64).saturating_mul(format.frames as u64);
    if samples <= SMALL.max(bytes.saturating_mul(MAX_EXPANSION)) {
        return Ok(());
    }
    let what = format!("claims {samples} samples, which {bytes} bytes cannot hold");
    Err(Error::input(&instance.place, what, "the header is damaged or the copy incomplete: copy it again"))
}

/// Files with several frames that are used, read and cut into frames.
fn shared(instances: &[Instance], slots: &[Slot]) -> Result<HashMap<usize, Shared>> {
    let mut files = HashMap::new();
    for slot in slots {
        let instance = &instances[slot.instance];
        if instance.frames.len() < 2 || files.contains_key(&slot.instance) {
            continue;
        }
        let place = located(instance)?;
        let name = instance.place.to_string();
        let opened = Opened::new(Cow::Owned(content(&instance.place)?), &name)?;
        let bytes = opened.bytes.into_owned();
        let (mut frames, mut owned) = (Vec::new(), Vec::new());
        {
            let source = source(&bytes, place);
            let base = bytes.as_ptr() as usize;
            for frame in source.frames(&place.format, &name)? {
                match frame {
                    Cow::Borrowed(part) => frames.push((part.as_ptr() as usize - base, part.len())),
                    Cow::Owned(part) => {
                        frames.push((usize::MAX, owned.len()));
                        owned.push(part);
                    }
                }
            }
        }
        files.insert(slot.instance, Shared { bytes, frames, owned });
    }
    Ok(files)
}

fn source<'a>(bytes: &'a [u8], place: &PixelPlace) -> Source<'a> {
    Source { bytes, start: place.start, encoding: place.encoding, wrapping: place.wrapping, vr: place.vr }
}

/// True where the samples of a file need no more than copying.
fn copyable(format: &PixelFormat, wrapping: Wrapping) -> bool {
    wrapping == Wrapping::Native
        && !format.planar
        && format.sample != Sample::Bit
        && !format.photometric.starts_with("YBR")
        && format.allocated > 8
}

/// Decodes one frame into its place.
fn frame<T: Stored>(instance: &Instance, frame: usize, shared: Option<&Shared>, out: &mut [T]) -> Result<()> {
    let place = located(instance)?;
    let name = instance.place.to_string();
    let damaged = |what: String| {
        let what = match place.format.frames {
            1 => what,
            _ => format!("frame {}: {what}", frame + 1),
        };
        let syntax = instance.syntax.map_or(String::new(), |syntax| format!(" ({})", syntax.name));
        Error::input(
            &name,
            format!("its pixels cannot be decoded{syntax}: {what}"),
            "get it from its source again, or uncompressed",
        )
    };
    if let Some(shared) = shared {
        let bytes = match shared.frames[frame] {
            (usize::MAX, k) => &shared.owned[k][..],
            (start, length) => &shared.bytes[start..start + length],
        };
        return decode_frame(bytes, &place.format, &source(&shared.bytes, place), out).map_err(damaged);
    }
    if let Place::File(path) = &instance.place
        && copyable(&place.format, place.wrapping)
    {
        let failed = |error: std::io::Error| Error::system(path.display(), &error);
        let mut file = File::open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(place.start as u64)).map_err(failed)?;
        file.read_exact(bytemuck::cast_slice_mut(out)).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                let what = format!("ends before the last of its {} bytes of pixels", size_of_val(out));
                Error::input(&name, what, "the copy is incomplete: copy it again")
            }
            _ => failed(error),
        })?;
        finish_native(&place.format, place.encoding.big, out);
        return Ok(());
    }
    let opened = Opened::new(Cow::Owned(content(&instance.place)?), &name)?;
    let source = source(&opened.bytes, place);
    let frames = source.frames(&place.format, &name)?;
    decode_frame(&frames[frame], &place.format, &source, out).map_err(damaged)
}
