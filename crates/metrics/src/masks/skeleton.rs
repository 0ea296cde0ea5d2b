//! Thin skeleton of a mask by repeated removal of simple border voxels.
//!
//! Source: Lee, Kashyap and Chu 1994, in the order of directions of scikit-image's `skeletonize` (method
//! `lee`), whose voxels it reproduces. Differs: the Euler test counts the cells of the voxel that no
//! neighbour shares, instead of a table; only border voxels are looked at.

/// Positions in the 27 voxels around and with the centre (13), as bits.
type Block = u32;

const CENTRE: Block = 1 << 13;

/// Skeleton of a mask `[z, y, x]`; voxels outside are background. Flat masks are thinned in their plane.
pub fn skeletonize(mask: &[u8], size: [usize; 3]) -> Vec<u8> {
    let [nz, ny, nx] = size;
    let padded = size.map(|n| n + 2);
    let mut voxels = vec![0u8; padded.iter().product()];
    let at = |z: usize, y: usize, x: usize| ((z + 1) * padded[1] + y + 1) * padded[2] + x + 1;
    for z in 0..nz {
        for y in 0..ny {
            for x in 0..nx {
                voxels[at(z, y, x)] = u8::from(mask[(z * ny + y) * nx + x] != 0);
            }
        }
    }
    thin(&mut voxels, padded);
    let mut skeleton = Vec::with_capacity(mask.len());
    for z in 0..nz {
        for y in 0..ny {
            skeleton.extend_from_slice(&voxels[at(z, y, 0)..at(z, y, 0) + nx]);
        }
    }
    skeleton
}

fn thin(voxels: &mut [u8], size: [usize; 3]) {
    let (row, plane) = (size[2], size[1] * size[2]);
    // Each round peels the six sides one after another; the order decides which of equal voxels stays.
    let faces: [isize; 6] = [1, -1, row as isize, -(row as isize), plane as isize, -(plane as isize)];
    let faces = FACE_ORDER.map(|face| faces[face]);
    let mut alive: Vec<usize> = (0..voxels.len()).filter(|&i| voxels[i] != 0).collect();
    let mut unchanged = 0;
    while unchanged < 6 && !alive.is_empty() {
        unchanged = 0;
        for face in faces {
            let candidates: Vec<usize> = alive
                .iter()
                .copied()
                .filter(|&i| voxels[i.wrapping_add_signed(face)] == 0)
                .filter(|&i| {
                    let block = block(voxels, i, row, plane);
                    // With one neighbour it is the end of a line and stays.
                    (block & !CENTRE).count_ones() != 1 && keeps_euler(block) && simple(block)
                })
                .collect();
            let mut removed = false;
            for i in candidates {
                if simple(block(voxels, i, row, plane)) {
                    voxels[i] = 0;
                    removed = true;
                }
            }
            if removed {
                alive.retain(|&i| voxels[i] != 0);
            } else {
                unchanged += 1;
            }
        }
    }
}

/// Indices into +x, -x, +y, -y, +z, -z.
const FACE_ORDER: [usize; 6] = [3, 2, 0, 1, 4, 5];

fn block(voxels: &[u8], centre: usize, row: usize, plane: usize) -> Block {
    let mut bits = 0;
    let first = centre - plane - row - 1;
    for z in 0..3 {
        for y in 0..3 {
            let from = first + z * plane + y * row;
            for x in 0..3 {
                bits |= u32::from(voxels[from + x]) << (z * 9 + y * 3 + x);
            }
        }
    }
    bits
}

/// Masks of the other voxels that share each vertex, edge and face of the centre.
const CELLS: ([Block; 8], [Block; 12], [Block; 6]) = cells();

const fn cells() -> ([Block; 8], [Block; 12], [Block; 6]) {
    let (mut vertices, mut edges, mut faces) = ([0; 8], [0; 12], [0; 6]);
    let (mut nv, mut ne, mut nf) = (0, 0, 0);
    let mut direction = 0;
    // Each cell lies in a direction of -1, 0 or 1 per axis; voxels that share it lie between there and the centre.
    while direction < 27 {
        let d = [direction / 9, direction / 3 % 3, direction % 3];
        let mut shared: Block = 0;
        let mut voxel = 0;
        while voxel < 27 {
            let v = [voxel / 9, voxel / 3 % 3, voxel % 3];
            let between =
                (v[0] == 1 || v[0] == d[0]) && (v[1] == 1 || v[1] == d[1]) && (v[2] == 1 || v[2] == d[2]);
            if between && voxel != 13 {
                shared |= 1 << voxel;
            }
            voxel += 1;
        }
        match (d[0] != 1) as u32 + (d[1] != 1) as u32 + (d[2] != 1) as u32 {
            3 => {
                vertices[nv] = shared;
                nv += 1;
            }
            2 => {
                edges[ne] = shared;
                ne += 1;
            }
            1 => {
                faces[nf] = shared;
                nf += 1;
            }
            _ => {}
        }
        direction += 1;
    }
    (vertices, edges, faces)
}

/// Does the Euler number stay when the centre goes? It takes its own cube with it, and the vertices,
/// edges and faces that no other voxel of the mask shares.
fn keeps_euler(block: Block) -> bool {
    let alone = |cells: &[Block]| cells.iter().filter(|cell| block & **cell == 0).count() as i32;
    alone(&CELLS.0) - alone(&CELLS.1) + alone(&CELLS.2) - 1 == 0
}

/// For each voxel of the block, its neighbours in it, without the centre.
const NEIGHBOURS: [Block; 27] = neighbours();

const fn neighbours() -> [Block; 27] {
    let mut all = [0; 27];
    let mut a = 0;
    while a < 27 {
        let mut b = 0;
        while b < 27 {
            let (dz, dy, dx) = (
                a as i32 / 9 - b as i32 / 9,
                a as i32 / 3 % 3 - b as i32 / 3 % 3,
                a as i32 % 3 - b as i32 % 3,
            );
            if dz * dz <= 1 && dy * dy <= 1 && dx * dx <= 1 && a != b && b != 13 {
                all[a] |= 1 << b;
            }
            b += 1;
        }
        a += 1;
    }
    all
}

/// Do the neighbours of the centre hang together (through corners too) without it?
fn simple(block: Block) -> bool {
    let around = block & !CENTRE;
    let mut reached = around & around.wrapping_neg();
    let mut fresh = reached;
    while fresh != 0 {
        let mut next = 0;
        while fresh != 0 {
            next |= NEIGHBOURS[fresh.trailing_zeros() as usize];
            fresh &= fresh - 1;
        }
        fresh = next & around & !reached;
        reached |= fresh;
    }
    reached == around
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_becomes_a_line_and_a_single_voxel_stays() {
        let (size, mut mask) = ([3, 3, 9], vec![0u8; 81]);
        mask.iter_mut().for_each(|v| *v = 1);
        let skeleton = skeletonize(&mask, size);
        let count = skeleton.iter().filter(|v| **v != 0).count();
        assert!((1..=9).contains(&count), "{count}");
        let mut one = vec![0u8; 27];
        one[13] = 1;
        assert_eq!(skeletonize(&one, [3, 3, 3]), one);
        assert_eq!(skeletonize(&[0; 27], [3, 3, 3]), [0; 27]);
    }

    #[test]
    fn a_ring_keeps_its_hole() {
        let mask: Vec<u8> = (0..7 * 7 * 3)
            .map(|i| u8::from(!((2..5).contains(&(i / 3 % 7)) && (2..5).contains(&(i / 21)))))
            .collect();
        let skeleton = skeletonize(&mask, [7, 7, 3]);
        let (_, pieces) = galen_kernels::components::label(
            &skeleton,
            [7, 7, 3],
            galen_kernels::components::Connectivity::Corners,
        );
        let hollow: Vec<u8> = skeleton.iter().map(|v| 1 - v).collect();
        assert_eq!(pieces, 1);
        assert!(hollow.iter().filter(|v| **v == 0).count() >= 12);
    }
}
