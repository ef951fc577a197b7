import ij.ImagePlus;
import ij.io.Opener;
import ij.io.RoiDecoder;
import ij.gui.Roi;
import java.awt.Point;
import java.io.FileInputStream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

/** Prints each ROI of a ROI set as ImageJ reads it: its name, then its pixels as x,y. */
public class ReadRois {
    public static void main(String[] arguments) throws Exception {
        ImagePlus labels = new Opener().openImage(arguments[1]);
        System.out.println("labels " + labels.getWidth() + " " + labels.getHeight() + " "
            + (int) labels.getProcessor().getMax() + " " + labels.getCalibration().pixelWidth
            + " " + labels.getCalibration().getUnit());
        try (ZipInputStream archive = new ZipInputStream(new FileInputStream(arguments[0]))) {
            for (ZipEntry entry = archive.getNextEntry(); entry != null;
                    entry = archive.getNextEntry()) {
                Roi roi = new RoiDecoder(archive.readAllBytes(), entry.getName()).getRoi();
                StringBuilder line = new StringBuilder("roi " + roi.getName());
                for (Point point : roi.getContainedPoints()) {
                    line.append(' ').append(point.x).append(',').append(point.y);
                }
                System.out.println(line);
            }
        }
    }
}
