/// A cubic, periodic grid of one level of MG: `size` points each way, and a layer around them that repeats the
/// opposite side.
struct NASGrid {
  let size: Int
  /// Points each way with the layer; the first index runs fastest.
  let stride: Int
  var values: [Double]

  init(size: Int) {
    (self.size, stride) = (size, size + 2)
    values = Array(repeating: 0, count: stride * stride * stride)
  }

  /// Factors of a 27-point stencil, by distance: the point, its 6, 12 and 8 neighbours.
  struct Weights {
    var centre, faces, edges, corners: Double
    var negated: Weights {
      Weights(centre: -centre, faces: -faces, edges: -edges, corners: -corners)
    }
  }

  /// Index of a point; 0 and `size + 1` are the layer.
  @inline(__always)
  func index(_ x: Int, _ y: Int, _ z: Int) -> Int { x + stride * (y + stride * z) }

  /// Makes the layer right.
  mutating func wrap() {
    let all = 0..<stride
    for z in 1...size {
      for y in 1...size {
        values[index(0, y, z)] = values[index(size, y, z)]
        values[index(size + 1, y, z)] = values[index(1, y, z)]
      }
    }
    for z in 1...size {
      for x in all {
        values[index(x, 0, z)] = values[index(x, size, z)]
        values[index(x, size + 1, z)] = values[index(x, 1, z)]
      }
    }
    for y in all {
      for x in all {
        values[index(x, y, 0)] = values[index(x, y, size)]
        values[index(x, y, size + 1)] = values[index(x, y, 1)]
      }
    }
  }

  /// Adds a stencil of `other`, a grid of the same size, to every point.
  mutating func add(_ weights: Weights, of other: NASGrid, _ progress: (Int) -> Void) {
    let source = other.values
    let (row, plane) = (stride, stride * stride)
    // Sums over the four neighbours across the row, and over the four at its diagonals: each is used thrice.
    var near = [Double](repeating: 0, count: stride)
    var far = near
    for z in 1...size {
      for y in 1...size {
        let start = index(0, y, z)
        for x in 0..<stride {
          let at = start + x
          near[x] = source[at - row] + source[at + row] + source[at - plane] + source[at + plane]
          far[x] =
            source[at - row - plane] + source[at + row - plane] + source[at - row + plane]
            + source[at + row + plane]
        }
        for x in 1...size {
          let at = start + x
          let faces = source[at - 1] + source[at + 1] + near[x]
          let edges = far[x] + near[x - 1] + near[x + 1]
          let corners = far[x - 1] + far[x + 1]
          values[at] +=
            weights.centre * source[at] + weights.faces * faces + weights.edges * edges
            + weights.corners * corners
        }
      }
      progress(size * size)
    }
    wrap()
  }

  /// Half the mean of each point's surroundings, on the grid of half the size.
  func restricted(_ progress: (Int) -> Void) -> NASGrid {
    var coarse = NASGrid(size: size / 2)
    let (row, plane) = (stride, stride * stride)
    for z in 1...coarse.size {
      for y in 1...coarse.size {
        for x in 1...coarse.size {
          let at = index(2 * x, 2 * y, 2 * z)
          func near(_ at: Int) -> Double {
            values[at - row] + values[at + row] + values[at - plane] + values[at + plane]
          }
          func far(_ at: Int) -> Double {
            values[at - row - plane] + values[at + row - plane] + values[at - row + plane]
              + values[at + row + plane]
          }
          let faces = values[at - 1] + values[at + 1] + near(at)
          let edges = far(at) + near(at - 1) + near(at + 1)
          let corners = far(at - 1) + far(at + 1)
          coarse.values[coarse.index(x, y, z)] =
            0.5 * values[at] + 0.25 * faces + 0.125 * edges + 0.0625 * corners
        }
      }
      progress(size * size / 2)
    }
    coarse.wrap()
    return coarse
  }

  /// Adds the grid of half the size, interpolated along each axis.
  mutating func addInterpolated(_ coarse: NASGrid, _ progress: (Int) -> Void) {
    let source = coarse.values
    let (row, plane) = (coarse.stride, coarse.stride * coarse.stride)
    for z in 0...coarse.size {
      for y in 0...coarse.size {
        let start = coarse.index(0, y, z)
        func sums(_ x: Int) -> (Double, Double, Double, Double) {
          let at = start + x
          let here = source[at]
          let byRow = source[at + row] + here
          let byPlane = source[at + plane] + here
          return (here, byRow, byPlane, source[at + row + plane] + source[at + plane] + byRow)
        }
        var left = sums(0)
        for x in 0...coarse.size {
          let right = sums(x + 1)
          let at = index(2 * x, 2 * y, 2 * z)
          let (up, back) = (at + stride, at + stride * stride)
          values[at] += left.0
          values[at + 1] += 0.5 * (left.0 + right.0)
          values[up] += 0.5 * left.1
          values[up + 1] += 0.25 * (left.1 + right.1)
          values[back] += 0.5 * left.2
          values[back + 1] += 0.25 * (left.2 + right.2)
          values[back + stride] += 0.25 * left.3
          values[back + stride + 1] += 0.125 * (left.3 + right.3)
          left = right
        }
      }
      progress(size * size * 2)
    }
  }
}
